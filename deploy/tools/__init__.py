"""What the commands share. Imports nothing else of deploy.

=============  ===============================================================================
processes      programs: start them, watch them, stop them
signals        Ctrl-C, ``kill`` and a closed terminal as KeyboardInterrupt
ports          is a TCP port free?
overlay        an answer drawn over its photograph
tables         tables for a terminal
steps          what a command is doing, and how long it took
=============  ===============================================================================
"""
