"""The content of a TensorFlow Lite file: tensors, operators and constants, including sparse ones.

The package `tflite` (the extra `blazepose`) has the classes of the file format. They follow offsets
without checking them, so sizes are checked here before anything is allocated. Invalid indices raise
various errors, which the caller catches.
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
MOST_NUMBERS = 2**26  # in all constants together
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
# Indices of sparse tensors are stored in the smallest type that fits.
VECTORS = {
    tflite.SparseIndexVector.Int32Vector: tflite.Int32Vector,
    tflite.SparseIndexVector.Uint16Vector: tflite.Uint16Vector,
    tflite.SparseIndexVector.Uint8Vector: tflite.Uint8Vector,
}


UNDONE = ("DEQUANTIZE", "DENSIFY")  # operators that only unpack constants


class Unsupported(ValueError):
    """A file is undamaged, but can't be used here; the message says why."""


class File:
    """The first subgraph of a file: tensors by number, operators in order."""

    def __init__(self, data: bytes):
        self._model = tflite.Model.GetRootAs(data, 0)
        self._graph: Any = self._model.Subgraphs(0)
        count = self._graph.OperatorsLength()
        if count > MOST_OPERATORS:
            raise Unsupported(f"{count} operators, expected at most {MOST_OPERATORS}.")
        self.operators = [self._graph.Operators(i) for i in range(count)]
        self.inputs = self._numbers(self._graph.InputsAsNumpy())
        self.outputs = self._numbers(self._graph.OutputsAsNumpy())
        self.makers: dict[int, int] = {}  # tensor -> the operator that computes it
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
        """Return TFLite's name of an operator."""
        code: Any = self._model.OperatorCodes(self.operators[number].OpcodeIndex())
        # Older files, from before codes above 127, have only the first of these.
        found = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
        return self._names.get(found, f"number {found}")

    def tensors(self, number: int) -> tuple[int, ...]:
        """Return the tensors that an operator reads; -1 for one that is left out."""
        return self._numbers(self.operators[number].InputsAsNumpy())

    def options(self, number: int, kind: str) -> Any:
        """Return the options of an operator, as the class of this name."""
        table, options = self.operators[number].BuiltinOptions(), getattr(tflite, kind)()
        options.Init(table.Bytes, table.Pos)
        return options

    def name(self, tensor: int) -> str:
        """Return the name of a tensor."""
        return self._tensor(tensor).Name().decode()

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Return the shape of a tensor; raise Unsupported unless all sizes are above 0."""
        shape = self._numbers(self._tensor(tensor).ShapeAsNumpy())
        if min(shape, default=1) < 1:
            raise Unsupported(
                f"tensor {self.name(tensor)!r} has the shape {shape}, expected a fixed one."
            )
        return shape

    def constant(self, tensor: int) -> np.ndarray:
        """Return a constant tensor's value, floats as float32; raise Unsupported for others."""
        stored = tensor
        while (maker := self.makers.get(stored)) is not None:
            if not self.is_constant(stored):
                name = self.name(tensor)
                raise Unsupported(f"tensor {name!r} is computed, expected stored weights.")
            (stored,) = self.tensors(maker)
        shape = self.shape(stored)
        self._constants += math.prod(shape)
        if self._constants > MOST_NUMBERS:  # checked before anything is allocated
            raise Unsupported(f"more than {MOST_NUMBERS} weights.")
        values, sparsity = self._values(stored), self._tensor(stored).Sparsity()
        return values.reshape(shape) if sparsity is None else densified(values, shape, sparsity)

    def is_constant(self, tensor: int) -> bool:
        """Return whether a tensor is stored, as it is or in a form that an operator unpacks."""
        maker = self.makers.get(tensor)
        return tensor not in self.inputs and (maker is None or self.kind(maker) in UNDONE)

    def _tensor(self, tensor: int) -> Any:
        if not 0 <= tensor < self._graph.TensorsLength():
            raise ValueError(f"there is no tensor {tensor}")
        return self._graph.Tensors(tensor)

    def _values(self, tensor: int) -> np.ndarray:
        """Return the stored values [n] of a tensor; floats as float32."""
        kind = self._tensor(tensor).Type()
        if kind not in STORED:
            raise Unsupported(
                f"tensor {self.name(tensor)!r} is quantized, expected float32 or float16."
            )
        data: Any = self._model.Buffers(self._tensor(tensor).Buffer())
        values = np.frombuffer(data.DataAsNumpy().tobytes(), STORED[kind])
        return values.astype(np.float32) if values.dtype.kind == "f" else values


def densified(values: np.ndarray, shape: tuple[int, ...], sparsity: Any) -> np.ndarray:
    """Put a sparse tensor's values [n] in their places in `shape`, with zeros elsewhere.

    Dimensions are in the order of a traversal, and each is either dense or in compressed rows.
    """
    order = sparsity.TraversalOrderAsNumpy().tolist()
    if sparsity.BlockMapLength():
        raise Unsupported("sparse weights in blocks aren't supported.")
    if sorted(order) != list(range(len(shape))):
        raise ValueError("another traversal")
    places, count = {}, 1  # dimension -> index of each value
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
