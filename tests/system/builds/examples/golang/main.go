package main

import "net"

func main() {
	listener, err := net.Listen("tcp", ":8080")
	for err == nil {
		var client net.Conn
		if client, err = listener.Accept(); err == nil {
			client.Read(make([]byte, 4096))
			client.Write([]byte("HTTP/1.0 200 OK\r\n\r\nHello World from Go\n"))
			client.Close()
		}
	}
	panic(err)
}
