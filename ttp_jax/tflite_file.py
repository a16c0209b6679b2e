"""What a TensorFlow Lite file stores: tensors, operators and constants, the sparse ones too.

The package `tflite` (the extra `blazepose`) has the classes of the file's format, which read what
offsets point to without asking whether it can be true. So sizes are checked here before anything is
made of them; indices that lead nowhere raise whatever they raise, for the caller to catch.
"""

import math
from typing import Any

import numpy as np

try:
    import tflite
except ImportError:
    raise ImportError(
        "TensorFlow Lite files are read by the package tflite: pip install tflite"
    ) from None

MOST_OPERATORS = 10_000
MOST_NUMBERS = 2**26  # of all constants together
STORED = {
    tflite.TensorType.FLOAT32: "<f4",
    tflite.TensorType.FLOAT16: "<f2",
    tflite.TensorType.INT32: "<i4",
    tflite.TensorType.INT64: "<i8",
}
ACTIVATIONS = {
    tflite.ActivationFunctionType.NONE: "none",
    tflite.ActivationFunctionType.RELU: "relu",
    tflite.ActivationFunctionType.RELU6: "relu6",
}
# Indices of sparse tensors come in the smallest type that holds them.
VECTORS = {
    tflite.SparseIndexVector.Int32Vector: tflite.Int32Vector,
    tflite.SparseIndexVector.Uint16Vector: tflite.Uint16Vector,
    tflite.SparseIndexVector.Uint8Vector: tflite.Uint8Vector,
}


UNDONE = ("DEQUANTIZE", "DENSIFY")  # operators that only unpack constants


class Unsupported(ValueError):
    """A whole file that can't be used here; says why."""


class File:
    """The first subgraph of a file: tensors by number, operators in their order."""

    def __init__(self, data: bytes):
        self._model = tflite.Model.GetRootAs(data, 0)
        self._graph: Any = self._model.Subgraphs(0)
        count = self._graph.OperatorsLength()
        if count > MOST_OPERATORS:
            raise Unsupported(f"{count} operators, expected at most {MOST_OPERATORS}.")
        self.operators = [self._graph.Operators(i) for i in range(count)]
        self.inputs = self._numbers(self._graph.InputsAsNumpy())
        self.outputs = self._numbers(self._graph.OutputsAsNumpy())
        self.makers: dict[int, int] = {}  # tensor: the operator it comes from
        for number, operator in enumerate(self.operators):
            for tensor in self._numbers(operator.OutputsAsNumpy()):
                self.makers.setdefault(tensor, number)
        codes = vars(tflite.BuiltinOperator)
        self._names = {code: name for name, code in codes.items() if isinstance(code, int)}
        self._constants = 0

    @staticmethod
    def _numbers(vector) -> tuple[int, ...]:
        return () if isinstance(vector, int) else tuple(int(n) for n in vector)

    def kind(self, number: int) -> str:
        """TFLite's name of an operator."""
        code: Any = self._model.OperatorCodes(self.operators[number].OpcodeIndex())
        # Files older than codes above 127 have the first of these only.
        found = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
        return self._names.get(found, f"number {found}")

    def tensors(self, number: int) -> tuple[int, ...]:
        """The tensors that an operator reads; -1 for one that is left out."""
        return self._numbers(self.operators[number].InputsAsNumpy())

    def options(self, number: int, kind: str) -> Any:
        """Options of an operator, of the class of this name."""
        table, options = self.operators[number].BuiltinOptions(), getattr(tflite, kind)()
        options.Init(table.Bytes, table.Pos)
        return options

    def name(self, tensor: int) -> str:
        """Name of a tensor."""
        return self._tensor(tensor).Name().decode()

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Shape of a tensor, all of it above 0."""
        shape = self._numbers(self._tensor(tensor).ShapeAsNumpy())
        if min(shape, default=1) < 1:
            raise Unsupported(f"tensor {self.name(tensor)!r} has no fixed shape, but {shape}.")
        return shape

    def constant(self, tensor: int) -> np.ndarray:
        """Value of a tensor that no input changes, floats as float32; Unsupported for any other."""
        stored = tensor
        while (maker := self.makers.get(stored)) is not None:
            if not self.is_constant(stored):
                name = self.name(tensor)
                raise Unsupported(f"{name!r} is computed, where weights are expected.")
            (stored,) = self.tensors(maker)
        shape = self.shape(stored)
        self._constants += math.prod(shape)
        if self._constants > MOST_NUMBERS:  # before anything is made of them
            raise Unsupported(f"more than {MOST_NUMBERS} weights.")
        values, sparsity = self._values(stored), self._tensor(stored).Sparsity()
        return values.reshape(shape) if sparsity is None else densified(values, shape, sparsity)

    def is_constant(self, tensor: int) -> bool:
        """Whether a tensor is stored, as it is or in a form that an operator undoes."""
        maker = self.makers.get(tensor)
        return tensor not in self.inputs and (maker is None or self.kind(maker) in UNDONE)

    def _tensor(self, tensor: int) -> Any:
        if not 0 <= tensor < self._graph.TensorsLength():
            raise ValueError("no such tensor")
        return self._graph.Tensors(tensor)

    def _values(self, tensor: int) -> np.ndarray:
        """What is stored of a tensor [n]; floats as float32."""
        kind = self._tensor(tensor).Type()
        if kind not in STORED:
            raise Unsupported(f"{self.name(tensor)!r} is quantized, expected float32 or float16.")
        data: Any = self._model.Buffers(self._tensor(tensor).Buffer())
        values = np.frombuffer(data.DataAsNumpy().tobytes(), STORED[kind])
        return values.astype(np.float32) if values.dtype.kind == "f" else values


def densified(values: np.ndarray, shape: tuple[int, ...], sparsity: Any) -> np.ndarray:
    """A sparse tensor's values [n] where they belong in `shape`, zeros elsewhere.

    Dimensions come in the order of a traversal, each either dense or as compressed rows.
    """
    order = sparsity.TraversalOrderAsNumpy().tolist()
    if sparsity.BlockMapLength():
        raise Unsupported("sparse weights in blocks aren't supported.")
    if sorted(order) != list(range(len(shape))):
        raise ValueError("another traversal")
    places, count = {}, 1  # per dimension: where each value lies
    for level, dimension in enumerate(order):
        about = sparsity.DimMetadata(level)
        if about.Format() == tflite.DimensionType.DENSE:
            size = shape[dimension]
            if size * count > MOST_NUMBERS:
                raise ValueError("another size")
            parents, own = np.repeat(np.arange(count), size), np.tile(np.arange(size), count)
        else:
            segments = _indices(about.ArraySegmentsType(), about.ArraySegments())
            own = _indices(about.ArrayIndicesType(), about.ArrayIndices())
            if len(segments) != count + 1 or segments[0] != 0 or segments[-1] != len(own):
                raise ValueError("other rows")
            parents = np.repeat(np.arange(count), np.diff(segments))
        places = {known: where[parents] for known, where in places.items()}
        places[dimension], count = own, len(own)
    if min(where.min(initial=0) for where in places.values()) < 0:
        raise ValueError("a place before the first")
    dense = np.zeros(shape, values.dtype)
    dense[tuple(places[dimension] for dimension in range(len(shape)))] = values
    return dense


def _indices(kind: int, table: Any) -> np.ndarray:
    vector = VECTORS[kind]()
    vector.Init(table.Bytes, table.Pos)
    return vector.ValuesAsNumpy().astype(np.int64)
