"""The launcher and the small process beside each container.

Owns stdio or pty, the log pump, attach clients, exec, reaping and the durable record of the exit status; outlives the
daemon. Imports neither asyncio nor logging, and as few modules as a start needs: memory per container is paid here.
"""
