def schema(*a):
    raise NotImplementedError
