"""The interactive console: ``fedparty console``.

Owns the dialogue: words, completion, history. What a command does and prints is the command's own: the console runs the
same ones as ``fedparty``.
"""
