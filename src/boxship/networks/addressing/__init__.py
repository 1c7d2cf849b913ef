"""Subnets for networks and addresses for endpoints."""
