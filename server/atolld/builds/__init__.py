"""Root images, and builds: a root, a memory snapshot taken on it, and the manifest that vouches for both.

Owns ``roots/`` and ``templates/`` of the state directory and the caches they are made from. A root is made in
three stages so that the dear ones are kept: a *tree* (Debian's packages), a *layer* over it (an overlay
diff) and the EROFS *image* of both with our own files on top, which alone is made again when those change.

May import ``node`` (by its door), ``store``, ``config`` and ``model``; knows no HTTP.
"""
