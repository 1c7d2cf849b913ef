"""What aiohttp lacks for us (hijacked streams, Unix and TLS listeners) and the command line's tiny HTTP client."""
