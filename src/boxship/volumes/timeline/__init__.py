"""What was in a volume earlier: snapshots, the way back, backups."""
