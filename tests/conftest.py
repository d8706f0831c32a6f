import torch as th

# The networks of the tests are too small to share among threads
th.set_num_threads(1)
