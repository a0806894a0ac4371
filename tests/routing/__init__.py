"""Routes, checked by one table against everything that is to follow them.

`cases.json` is the table: servers, and for each case the routes and who has to answer which calls.
A *model* is a way from a client to the servers (`model.py`); each runs the whole table.
"""
