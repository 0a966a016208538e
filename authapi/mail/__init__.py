"""Mail: what a feature declares of a mail, its text, and the relay that takes it.

Only `smtp` imports smtplib, and only the thread that sends imports `smtp`.
"""
