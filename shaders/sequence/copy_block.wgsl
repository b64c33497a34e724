// sequence/copy_block: a block of columns, copied between tensors of different width.
//
//   to[r, c] = from[r, c]
//
// One invocation per element, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, sequence::copy_block.
struct CopyBlock {
    rows: u32,
    width: u32,
    from_offset: u32, // of the first element
    from_stride: u32, // from one row to the next
    to_offset: u32,
    to_stride: u32,
    groups_x: u32,
    _pad: u32,
}

@group(0) @binding(0) var<storage, read>       source: array<f32>;
@group(0) @binding(1) var<storage, read_write> out:    array<f32>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    if i >= params.rows * params.width {
        return;
    }
    let row = i / params.width;
    let column = i % params.width;
    out[params.to_offset + row * params.to_stride + column] =
        source[params.from_offset + row * params.from_stride + column];
}
