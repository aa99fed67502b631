"""One module a command, loaded when it is called; its click command is named `command`."""
