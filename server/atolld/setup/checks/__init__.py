"""Doctor's checks: each does the thing Atoll will do, instead of asking whether it might work.

Every module here is a group; a check is an async function of a `finding.Patient` that returns one finding and
leaves the machine as it was. It raises nothing that a machine can cause.
"""
