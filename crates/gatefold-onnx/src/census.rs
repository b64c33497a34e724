//! Counts the fields in a file before anything is decoded.
//!
//! An empty message takes two bytes in a file and several hundred in memory, so a small hostile file could claim a lot
//! of memory. The walk below follows the schema's messages without keeping any, with prost's own decoders of keys and
//! lengths.

use prost::DecodeError;
use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// The most length-delimited fields (messages, strings, lists, blocks of data) in a model, some hundred bytes each in
/// memory. A large exported network has a few thousand.
const MAX_FIELDS: usize = 250_000;
/// The most of them in exporters' notes, which are some dozen bytes each.
const MAX_NOTES: usize = 4_000_000;
/// The deepest nesting of messages, as in prost.
const MAX_DEPTH: usize = 100;

/// A message of the schema: the fields that hold messages, by tag.
struct Message(&'static [(u32, &'static Message)]);

static MODEL: Message = Message(&[(7, &GRAPH), (8, &LEAF), (14, &NOTE), (20, &TRAINING), (25, &FUNCTION)]);
static TRAINING: Message = Message(&[(1, &GRAPH), (2, &GRAPH), (3, &LEAF), (4, &LEAF)]);
static FUNCTION: Message =
    Message(&[(7, &NODE), (9, &LEAF), (11, &ATTRIBUTE), (12, &VALUE_INFO), (14, &NOTE)]);
static GRAPH: Message = Message(&[
    (1, &NODE),
    (5, &TENSOR),
    (11, &VALUE_INFO),
    (12, &VALUE_INFO),
    (13, &VALUE_INFO),
    (14, &ANNOTATION),
    (15, &SPARSE),
    (16, &NOTE),
]);
static NODE: Message = Message(&[(5, &ATTRIBUTE), (9, &NOTE), (10, &DEVICE)]);
static ATTRIBUTE: Message = Message(&[
    (5, &TENSOR),
    (6, &GRAPH),
    (10, &TENSOR),
    (11, &GRAPH),
    (14, &TYPE),
    (15, &TYPE),
    (22, &SPARSE),
    (23, &SPARSE),
]);
static TENSOR: Message = Message(&[(3, &LEAF), (13, &LEAF), (16, &NOTE)]);
static SPARSE: Message = Message(&[(1, &TENSOR), (2, &TENSOR)]);
static VALUE_INFO: Message = Message(&[(2, &TYPE), (4, &NOTE)]);
static TYPE: Message = Message(&[
    (1, &TENSOR_TYPE),
    (4, &ELEMENT_TYPE),
    (5, &MAP_TYPE),
    (7, &LEAF),
    (8, &TENSOR_TYPE),
    (9, &ELEMENT_TYPE),
]);
static TENSOR_TYPE: Message = Message(&[(2, &SHAPE)]);
static ELEMENT_TYPE: Message = Message(&[(1, &TYPE)]);
static MAP_TYPE: Message = Message(&[(2, &TYPE)]);
static SHAPE: Message = Message(&[(1, &LEAF)]);
static ANNOTATION: Message = Message(&[(2, &LEAF)]);
static DEVICE: Message = Message(&[(2, &SHARDING)]);
static SHARDING: Message = Message(&[(3, &LEAF), (4, &SHARDED)]);
static SHARDED: Message = Message(&[(2, &LEAF)]);
/// A message that holds only numbers and strings.
static LEAF: Message = Message(&[]);
/// A note of an exporter: a key and a value, both strings.
static NOTE: Message = Message(&[]);

/// The fields that were met.
#[derive(Default)]
struct Met {
    fields: usize,
    notes: usize,
}

/// Refuses a model that would decode to too many fields or is nested too deeply.
pub(crate) fn check(mut bytes: &[u8]) -> Result<(), String> {
    walk(&mut bytes, &MODEL, 0, &mut Met::default())
}

fn walk(bytes: &mut &[u8], message: &Message, depth: usize, met: &mut Met) -> Result<(), String> {
    if depth >= MAX_DEPTH {
        return Err(format!("messages nested more than {MAX_DEPTH} deep"));
    }
    while bytes.has_remaining() {
        let (tag, wire) = decode_key(bytes).map_err(broken)?;
        if wire != WireType::LengthDelimited {
            skip_field(wire, tag, bytes, DecodeContext::default()).map_err(broken)?;
            continue;
        }
        let child = message.0.iter().find(|(child, _)| *child == tag).map(|(_, child)| *child);
        let is_note = std::ptr::eq(message, &NOTE) || child.is_some_and(|child| std::ptr::eq(child, &NOTE));
        let (count, most) = if is_note { (&mut met.notes, MAX_NOTES) } else { (&mut met.fields, MAX_FIELDS) };
        *count += 1;
        if *count > most {
            return Err(format!("more than {most} fields, which no model of a recurrent network needs"));
        }
        let len = usize::try_from(decode_varint(bytes).map_err(broken)?).unwrap_or(usize::MAX);
        let Some((mut inside, rest)) = bytes.split_at_checked(len) else {
            return Err(format!(
                "a field of {len} bytes where only {} are left; the file is truncated",
                bytes.len()
            ));
        };
        if let Some(child) = child {
            walk(&mut inside, child, depth + 1, met)?;
        }
        *bytes = rest;
    }
    Ok(())
}

fn broken(error: DecodeError) -> String {
    format!("not an ONNX model, or a truncated one: {error}")
}
