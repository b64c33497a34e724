//! Writes `src/proto.rs` of gatefold-onnx from the published schema beside this program:
//! `cargo run --manifest-path crates/gatefold-onnx/schema/generate/Cargo.toml`.

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto};
use std::error::Error;
use std::path::Path;

const HEADER: &str = "\
// Written by schema/generate from schema/onnx.proto3, which is part of ONNX:
// SPDX-License-Identifier: Apache-2.0
// Copyright (c) ONNX Project Contributors
// Do not edit; see schema/README.md.

";

/// Lists of numbers are written as ONNX itself writes them, from its proto2 schema: packed only where that says so.
/// Some readers take no other form.
fn unpack(message: &mut DescriptorProto) {
    let number = |field: &FieldDescriptorProto| {
        !matches!(field.r#type(), Type::String | Type::Bytes | Type::Message | Type::Group)
    };
    for field in message.field.iter_mut().filter(|field| field.label() == Label::Repeated && number(field)) {
        field.options.get_or_insert_default().packed.get_or_insert(false);
    }
    message.nested_type.iter_mut().for_each(unpack);
}

fn main() -> Result<(), Box<dyn Error>> {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let schema = crate_folder.join("schema");
    let mut descriptors = protox::compile(["onnx.proto3"], [&schema])?;
    for file in &mut descriptors.file {
        file.message_type.iter_mut().for_each(unpack);
    }
    let out = std::env::temp_dir().join("gatefold-onnx-schema");
    std::fs::create_dir_all(&out)?;
    prost_build::Config::new()
        .out_dir(&out)
        // The comments of the schema are Markdown of another kind than rustdoc's; read them there.
        .disable_comments(["."])
        // Slices of the file's bytes in place of copies.
        .bytes([".onnx.TensorProto.raw_data"])
        .compile_fds(descriptors)?;
    let generated = std::fs::read_to_string(out.join("onnx.rs"))?;
    std::fs::write(crate_folder.join("src/proto.rs"), format!("{HEADER}{generated}"))?;
    Ok(())
}
