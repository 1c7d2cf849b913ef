"""Programs of builds as containers: what ``build.runner`` asks for."""
