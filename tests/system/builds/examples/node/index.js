const http = require('http');
const who = process.env.WHO || 'World';
http.createServer((_, response) => response.end(`Hello ${who}\n`)).listen(8080);
