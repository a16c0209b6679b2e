"""TensorFlow Lite files: the same graph and outputs as TensorFlow's; odd files are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tflite_files
from tensorflow.lite.python import schema_py_generated as schema

from ttp_jax import tflite
from ttp_jax.models.encoders import graph

pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
tf = tflite_files.tf

# All operators, odd sizes, both paddings, a branch that no output needs.
NODES = (
    graph.Node(graph.Conv(8, 3, 2, "SAME", "relu6"), (0,), "layer1"),
    graph.Node(graph.Depthwise(5, 1, "SAME", "relu6"), (1,), "layer2"),
    graph.Node(graph.Conv(8, 1), (2,), "layer3"),
    graph.Node(graph.Add("relu"), (3, 1)),
    graph.Node(graph.Pad((1, 1), (1, 1)), (4,)),
    graph.Node(graph.Depthwise(3, 2, "VALID"), (5,), "layer4"),
    graph.Node(graph.Resize(2), (6,)),
    graph.Node(graph.MaxPool(3, 2, "SAME"), (4,)),
    graph.Node(graph.DepthToSpace(2), (8,)),
    graph.Node(graph.Concatenation(3), (7, 9)),
    graph.Node(graph.Conv(3, 3, 1, "VALID", "relu"), (10,), "layer5"),
    graph.Node(graph.Reshape((-1, 3)), (11,)),
    graph.Node(graph.Logistic(), (12,)),
)
GRAPH = graph.Graph(NODES, (11, 13))
SHAPE = (1, 24, 20, 3)


def params_of(network, shape, seed=0):
    """He-scaled weights that half precision holds."""
    rng = np.random.default_rng(seed)
    picture = jax.ShapeDtypeStruct(shape, jnp.float32)
    shapes = jax.eval_shape(graph.Network(network).init, jax.random.key(0), picture)["params"]

    def draw(leaf):
        fan = np.prod(leaf.shape[:-1]) if leaf.ndim == 4 else np.prod(leaf.shape[:2])
        scale = np.sqrt(2 / fan) if leaf.ndim > 1 else 0.3
        return (scale * rng.normal(size=leaf.shape)).astype(np.float16).astype(np.float32)

    return jax.tree.map(draw, shapes)


@pytest.fixture(scope="module")
def made():
    """Weights, and the files that hold them, in single and half precision."""
    params = params_of(GRAPH, SHAPE)

    def function(x):
        return tflite_files.evaluate(GRAPH, params, x)

    files = {half: tflite_files.convert(function, SHAPE, half=half) for half in (False, True)}
    return params, files


@pytest.fixture
def written(made, tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(made[1][True])
    return path


@pytest.mark.parametrize("half", [False, True])
def test_a_file_s_network_gives_what_the_interpreter_gives(made, tmp_path, half):
    path = tmp_path / "net.tflite"
    path.write_bytes(made[1][half])
    network = tflite.read(path)
    picture = np.random.default_rng(1).uniform(size=SHAPE).astype(np.float32)
    expected = tflite_files.interpreted(made[1][half], picture)
    assert tflite.outputs(path) == {name: value.shape for name, value in expected.items()}
    found = graph.Network(network.graph).apply({"params": network.params}, picture)
    for value, name in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, expected[name], atol=1e-5)
    assert network.input_shape == SHAPE


def test_weights_are_read_bit_by_bit_and_graphs_node_by_node(made, written):
    params, _ = made
    (maps,) = (name for name, shape in tflite.outputs(written).items() if len(shape) == 4)
    network = tflite.read(written, maps)
    # Neither the reshape nor the logistic function, which those maps don't need.
    needed = graph.reachable(GRAPH._replace(outputs=(11,)))
    assert [n.operator for n in network.graph.nodes] == [n.operator for n in needed.nodes]
    for node, own in zip(network.graph.nodes, needed.nodes, strict=True):
        assert node.inputs == own.inputs and bool(node.name) == bool(own.name)
        for leaf in params.get(own.name, {}):
            np.testing.assert_array_equal(network.params[node.name][leaf], params[own.name][leaf])


def check_gradients(loss, at, step=1e-7):
    """The slope along one random direction, in float64, against that of finite differences."""
    rng = np.random.default_rng(1)
    direction = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), at)
    jitted, slope = jax.jit(loss), jax.jit(jax.grad(loss))(at)
    pairs = zip(jax.tree.leaves(slope), jax.tree.leaves(direction), strict=True)
    expected = sum(float(jnp.vdot(a, b)) for a, b in pairs)
    ahead, behind = (
        float(jitted(jax.tree.map(lambda a, b, s=s: a + s * b, at, direction)))
        for s in (step, -step)
    )
    assert expected and (ahead - behind) / (2 * step) == pytest.approx(expected, rel=1e-4)


def test_gradients_of_all_operators_are_those_of_finite_differences(made, x64):
    wide = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), made[0])
    picture = jnp.asarray(np.random.default_rng(0).normal(size=SHAPE))
    network = graph.Network(GRAPH, jnp.float64)

    def loss(at):
        found = network.apply({"params": at[0]}, at[1])
        return sum(jnp.sum(jnp.sin(value)) for value in found)

    check_gradients(loss, (wide, picture))


def test_the_order_of_a_file_s_operators_does_not_matter():
    # The same network, its branches written in another order, and one that nothing needs.
    a, b = graph.Conv(4, 1), graph.Depthwise(3)
    one = graph.Graph(
        (
            graph.Node(a, (0,), "a"),
            graph.Node(b, (0,), "b"),
            graph.Node(graph.Add(), (1, 2)),
        ),
        (3,),
    )
    other = graph.Graph(
        (
            graph.Node(graph.Logistic(), (0,)),
            graph.Node(b, (0,), "b"),
            graph.Node(a, (0,), "a"),
            graph.Node(graph.Add(), (3, 2)),
        ),
        (4,),
    )
    assert graph.reachable(other) == graph.reachable(one) == one


def test_an_unknown_output_or_operator_is_one_line(written, tmp_path):
    with pytest.raises(
        ValueError, match=r"net\.tflite: no output 'maps', expected one of .* \[1, "
    ):
        tflite.read(written, "maps")
    path = tmp_path / "odd.tflite"
    kernel = np.ones((1, 1, 3, 2), np.float32)
    path.write_bytes(
        tflite_files.convert(lambda x: tf.math.tanh(tf.nn.conv2d(x, kernel, 1, "SAME")), SHAPE)
    )
    with pytest.raises(ValueError, match=r"odd\.tflite: operator TANH isn't supported, only CONV_"):
        tflite.read(path)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x + np.ones(3, np.float32), "constant"),
        (lambda x: tf.compat.v1.image.resize_bilinear(x, (48, 40)), "half-pixel"),
        (lambda x: tf.image.resize(x, (36, 30)), "expected a multiple"),
        (
            lambda x: tf.pad(x, ((0, 0), (0, 0), (0, 0), (1, 1))),
            "PAD is supported for height and width",
        ),
        (
            lambda x: tf.nn.conv2d(x, np.ones((3, 3, 3, 2), np.float32), 1, "SAME", dilations=2),
            "dil",
        ),
        (lambda x: tf.nn.conv2d(x, np.ones((3, 1, 3, 2), np.float32), 1, "SAME"), "square"),
    ],
)
def test_operators_used_in_other_ways_are_refused_in_words(function, message, tmp_path):
    path = tmp_path / "odd.tflite"
    path.write_bytes(tflite_files.convert(function, SHAPE))
    with pytest.raises(ValueError, match=message) as error:
        tflite.read(path)
    assert "odd.tflite" in str(error.value) and "damaged" not in str(error.value)


def test_other_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no.tflite"):
        tflite.read(tmp_path / "no.tflite")
    path = tmp_path / "text.tflite"
    for content in (b"", b"TFL3", b"a text of no network"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"text\.tflite is not a TensorFlow Lite file"):
            tflite.read(path)


def test_damaged_files_are_errors_that_name_them(made, written):
    content, rng = made[1][True], np.random.default_rng(0)
    mutants = [content[: len(content) * i // 12] for i in range(1, 12)]
    for _ in range(60):
        mutant = bytearray(content)
        for place in rng.integers(len(content), size=rng.integers(1, 40)):
            mutant[place] = rng.integers(256)
        mutants.append(bytes(mutant))
    refused = 0
    for mutant in mutants:
        written.write_bytes(mutant)
        try:
            network = tflite.read(written)
        except ValueError as error:
            refused += 1
            assert "net.tflite" in str(error)
        else:  # a change of a weight, or of what nothing reads
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(network.params))
    assert refused > 20


def changed(content, change):
    """The file with something changed in it."""
    import flatbuffers

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    change(model.subgraphs[0], model)
    builder = flatbuffers.Builder(2**16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_sizes_that_lie_make_no_huge_arrays(made, written):
    def enormous(net, model):
        net.tensors[net.inputs[0]].shape = [1, 2**30, 2**30, 3]

    def all_weights(net, model):
        for tensor in net.tensors:
            tensor.shape = [2**14, 2**14, 2**14, 2**14]

    def no_size(net, model):
        net.tensors[net.inputs[0]].shape = [1, -1, -1, 3]

    def loop(net, model):
        net.operators[-1].inputs = net.operators[-1].outputs

    for change in (enormous, all_weights, no_size, loop):
        written.write_bytes(changed(made[1][False], change))
        with pytest.raises(ValueError, match=r"net\.tflite"):
            tflite.read(written)
    written.write_bytes(changed(made[1][False], lambda net, model: None))
    tflite.read(written)


def test_weights_that_are_no_numbers_are_refused(made, written):
    def spoil(net, model):
        largest = max(model.buffers, key=lambda b: 0 if b.data is None else len(b.data))
        largest.data = np.full(len(largest.data) // 4, np.nan, "<f4").view(np.uint8)

    written.write_bytes(changed(made[1][False], spoil))
    with pytest.raises(ValueError, match=r"net\.tflite is damaged"):
        tflite.read(written)


def sparsity_of(dense, order, formats):
    """The values of an array in a traversal, and what a file says of where they belong.

    The plain version: walk all indices in the order, leave out zeros below a compressed dimension.
    """
    moved = np.transpose(dense, order)
    metadata, rows = [], [()]
    for level, compressed in enumerate(formats):
        if not compressed:
            metadata.append((0, moved.shape[level], None, None))
            rows = [(*row, i) for row in rows for i in range(moved.shape[level])]
            continue
        segments, indices, kept = [0], [], []
        for row in rows:
            used = [i for i in range(moved.shape[level]) if moved[(*row, i)].any()]
            indices += used
            segments.append(len(indices))
            kept += [(*row, i) for i in used]
        rows = kept
        metadata.append((1, 0, segments, indices))
    return np.array([moved[row] for row in rows]), metadata


def sparse_file(content, order, formats):
    """The same file, the weights of its 1 x 1 convolution half zeros and kept sparse."""

    def change(net, model):
        tensor = next(t for t in net.tensors if list(t.shape) == [8, 1, 1, 8])
        stored = model.buffers[tensor.buffer]
        dense = np.array(stored.data, np.uint8).view("<f4").reshape(8, 1, 1, 8)
        kept = np.where(np.random.default_rng(0).uniform(size=dense.shape) < 0.5, dense, 0)
        values, metadata = sparsity_of(kept, order, formats)
        sparse, buffer = schema.TensorT(), schema.BufferT()
        buffer.data = values.astype("<f4").view(np.uint8)
        model.buffers.append(buffer)
        sparse.shape, sparse.type, sparse.name = tensor.shape, tensor.type, b"sparse"
        sparse.buffer, sparse.sparsity = len(model.buffers) - 1, schema.SparsityParametersT()
        sparse.sparsity.traversalOrder = list(order)
        sparse.sparsity.dimMetadata = [dimension(*about) for about in metadata]
        net.tensors.append(sparse)
        tensor.buffer = 0
        code, unpack = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DENSIFY
        model.operatorCodes.append(code)
        unpack.opcodeIndex = len(model.operatorCodes) - 1
        unpack.inputs, unpack.outputs = [len(net.tensors) - 1], [net.tensors.index(tensor)]
        net.operators.insert(0, unpack)

    return changed(content, change)


def dimension(kind, size, segments, indices):
    """A dimension of a sparse tensor as the file has it; numbers of two types."""
    about = schema.DimensionMetadataT()
    about.format, about.denseSize = kind, size
    if kind:
        about.arraySegments, about.arrayIndices = schema.Uint16VectorT(), schema.Uint8VectorT()
        about.arraySegments.values, about.arrayIndices.values = (
            np.uint16(segments),
            np.uint8(indices),
        )
        about.arraySegmentsType = schema.SparseIndexVector.Uint16Vector
        about.arrayIndicesType = schema.SparseIndexVector.Uint8Vector
    return about


@pytest.mark.parametrize(
    ("order", "formats"),
    [
        ((0, 1, 2, 3), (0, 0, 0, 1)),
        ((0, 1, 2, 3), (1, 0, 0, 1)),
        ((3, 2, 0, 1), (0, 0, 1, 0)),
        ((1, 3, 0, 2), (0, 1, 1, 1)),
    ],
)
def test_sparse_weights_are_read_as_the_interpreter_reads_them(made, written, order, formats):
    content = sparse_file(made[1][False], order, formats)
    written.write_bytes(content)
    network = tflite.read(written)
    picture = np.random.default_rng(1).uniform(size=SHAPE).astype(np.float32)
    expected = tflite_files.interpreted(content, picture)
    found = graph.Network(network.graph).apply({"params": network.params}, picture)
    for value, name in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, expected[name], atol=1e-5)
    whole = tflite_files.interpreted(made[1][False], picture)
    assert not all(np.allclose(whole[name], expected[name]) for name in expected)


def test_damaged_sparse_weights_are_errors(made, written):
    def spoil(net, model):
        about = net.tensors[-1].sparsity.dimMetadata[-1]
        about.arrayIndices.values = np.uint8(about.arrayIndices.values) + 200

    content = sparse_file(made[1][False], (0, 1, 2, 3), (0, 0, 0, 1))
    written.write_bytes(changed(content, spoil))
    with pytest.raises(ValueError, match=r"net\.tflite is damaged"):
        tflite.read(written)
