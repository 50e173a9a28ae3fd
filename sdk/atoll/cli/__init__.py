"""The command line: `app` declares the commands, one module does each.

Start-up is part of every command, so `app` imports nothing but Typer; a command's module, and with it HTTP
and tables, is imported when the command runs. Every error is a :class:`~atoll.cli.failures.Failure`.
"""
