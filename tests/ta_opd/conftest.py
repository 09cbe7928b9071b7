from hypothesis import settings

settings.register_profile("ta_opd", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("ta_opd")
