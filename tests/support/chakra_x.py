"""What `test_cost_chakra` and `test_protobuf` share."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

TYPES = descriptor_pb2.FieldDescriptorProto


SCALARS = [
    ("double", TYPES.TYPE_DOUBLE),
    ("float", TYPES.TYPE_FLOAT),
    ("int32", TYPES.TYPE_INT32),
    ("int64", TYPES.TYPE_INT64),
    ("uint32", TYPES.TYPE_UINT32),
    ("uint64", TYPES.TYPE_UINT64),
    ("sint32", TYPES.TYPE_SINT32),
    ("sint64", TYPES.TYPE_SINT64),
    ("fixed32", TYPES.TYPE_FIXED32),
    ("fixed64", TYPES.TYPE_FIXED64),
    ("sfixed32", TYPES.TYPE_SFIXED32),
    ("sfixed64", TYPES.TYPE_SFIXED64),
    ("bool", TYPES.TYPE_BOOL),
    ("string", TYPES.TYPE_STRING),
    ("bytes", TYPES.TYPE_BYTES),
]


def schema():
    """The Chakra schema, built field by field: an independent reader of what the package writes."""
    file = descriptor_pb2.FileDescriptorProto(name="et_def.proto", package="chakra", syntax="proto3")

    def field(message, name, number, kind, repeated=False, inner=None, oneof=None):
        label = TYPES.LABEL_REPEATED if repeated else TYPES.LABEL_OPTIONAL
        added = message.field.add(name=name, number=number, type=kind, label=label)
        if inner:
            added.type_name = f".chakra.{inner}"
        if oneof is not None:
            added.oneof_index = oneof

    attribute = file.message_type.add(name="AttributeProto")
    field(attribute, "name", 1, TYPES.TYPE_STRING)
    field(attribute, "doc_string", 2, TYPES.TYPE_STRING)
    attribute.oneof_decl.add(name="value")
    for k, (name, kind) in enumerate(SCALARS):
        values = file.message_type.add(name=f"{name}List")
        field(values, "values", 1, kind, repeated=True)
        field(attribute, f"{name}_val", 3 + 2 * k, kind, oneof=0)
        field(attribute, f"{name}_list", 4 + 2 * k, TYPES.TYPE_MESSAGE, inner=f"{name}List", oneof=0)
    info = file.message_type.add(name="IOInfo")
    for number, name in enumerate(("values", "shapes", "types"), start=1):
        field(info, name, number, TYPES.TYPE_STRING)
    metadata = file.message_type.add(name="GlobalMetadata")
    field(metadata, "version", 1, TYPES.TYPE_STRING)
    field(metadata, "attr", 2, TYPES.TYPE_MESSAGE, repeated=True, inner="AttributeProto")
    node = file.message_type.add(name="Node")
    field(node, "id", 1, TYPES.TYPE_UINT64)
    field(node, "name", 2, TYPES.TYPE_STRING)
    field(node, "type", 3, TYPES.TYPE_INT32)  # an enum on the wire is an int32
    field(node, "ctrl_deps", 4, TYPES.TYPE_UINT64, repeated=True)
    field(node, "data_deps", 5, TYPES.TYPE_UINT64, repeated=True)
    field(node, "start_time_micros", 6, TYPES.TYPE_UINT64)
    field(node, "duration_micros", 7, TYPES.TYPE_UINT64)
    field(node, "inputs", 8, TYPES.TYPE_MESSAGE, inner="IOInfo")
    field(node, "outputs", 9, TYPES.TYPE_MESSAGE, inner="IOInfo")
    field(node, "attr", 10, TYPES.TYPE_MESSAGE, repeated=True, inner="AttributeProto")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = (pool.FindMessageTypeByName(f"chakra.{name}") for name in ("GlobalMetadata", "Node"))
    return [message_factory.GetMessageClass(one) for one in found]


METADATA, NODE = schema()
