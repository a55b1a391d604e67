"""Is this machine fit for dr_keras? Facts are gathered, then judged; nothing here may crash.

`machine` gathers what can be known without TensorFlow, `probe` (a process of its own, because a
wrong library ends the process that imports it) what takes it, `findings` judges plain dicts.
"""
