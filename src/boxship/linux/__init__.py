"""Kernel interfaces, one thin module per subject, one function per call, named like the man page.

No policy, no logging, no retry beyond EINTR; failures are OSError with the kernel's errno.
"""
