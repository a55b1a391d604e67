"""What a report is made of: every module here registers sections (`page.section`).

A section that is not registered here but in a module of the user's own, imported by a line in the
gin file, is shown as well.
"""
