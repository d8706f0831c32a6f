"""What an export consists of, and its limits. Free of torch."""

CONFIG, TENSORS = "config.json", "model.safetensors"
FILES = (CONFIG, TENSORS)
# Increased when older versions of this package can no longer read the exports that newer ones write
EXPORT_VERSION = 1

# Limits: a file cannot make its reader allocate much more memory than it takes itself
MOST_CONFIG_BYTES = 2**24  # mostly bounds of large boxes
MOST_SPACE_ELEMENTS = 2**24  # all parts of a space together: four images of 2048x2048 pixels
MOST_PARTS = 2**12  # of observations (1, or the keys of a dictionary) times policies: each policy has layers for each
MOST_HEADER_BYTES = 2**20  # names and shapes of tensors: about 7,000
MOST_TENSOR_ELEMENTS = 2**28  # of each tensor computed while a network is built: 1 GiB of float32

# Classes of PyTorch that settings may name, beside the policies and features extractors of SB3 and this package
ACTIVATIONS = (
    *("CELU", "ELU", "GELU", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity", "LeakyReLU", "LogSigmoid", "Mish"),
    *("PReLU", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softsign", "Tanh"),
)
OPTIMIZERS = ("Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "SGD")
