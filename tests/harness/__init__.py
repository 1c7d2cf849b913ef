"""What system tests, the demo and the benchmark share: private network namespaces, engines in them, small images."""
