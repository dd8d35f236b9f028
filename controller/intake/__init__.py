"""The intake job: media → chunk audio, tasks, plan. The only process that meets untrusted media.

``python -m controller.intake`` cuts one recording (``__main__``).
"""
