"""Devices by name: the Container Device Interface (CDI), whose specifications the host's vendors install."""
