"""The command line. May import anything; nothing imports it. Each command is a module, imported when it is called."""
