"""The intake job: media → chunk audio, tasks, plan. The only process that reads untrusted media.

``python -m controller.intake`` cuts one recording (``__main__``).
"""
