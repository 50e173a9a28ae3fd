"""How IRkernel, which Debian installs, is started; the code beside this file is R."""
