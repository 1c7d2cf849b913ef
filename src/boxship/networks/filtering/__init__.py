"""The firewall: its rules, its tables in the kernel, and what others' rules do to it."""
