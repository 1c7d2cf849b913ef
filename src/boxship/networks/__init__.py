"""Container networks: drivers (bridge, host, none), address management, port publishing, hosts and resolv.conf files."""
