"""What this machine must have before a sandbox can start, and how it gets it; doctor and uninstall.

Owns the steps of set-up (`machine`), their order and progress (`steps`, `runner`, `progress`). Enter by the
``run`` of `main`, `doctor` and `uninstall`. May import ``control`` and below; knows no HTTP. Idempotent all
through: whatever is whole is kept, whatever is not is made again.
"""
