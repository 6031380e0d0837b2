"""Messages generated from ``proto/fedparty/v1`` (``make proto``); never edited by hand."""
