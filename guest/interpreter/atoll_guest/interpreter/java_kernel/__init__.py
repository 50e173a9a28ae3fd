"""A Java kernel on the JDK's own JShell, in one process, with the Jupyter wire over unix sockets.

Beside `jjava`: output that finds its reader slow waits (jjava throws what is over a thousand messages away),
a thrown exception has its own name, and a start takes a fraction, as the classes come from an archive that
the image's JDK made when it compiled them (the recipe `languages.sh`).

    Main        requests, one at a time      Evaluator   cells on JShell      Notebook   display(), render()
    Publisher   what goes to the listeners   Output      System.out and .err  Zmtp Json  the wire
"""
