// The smallest dispatch that has to wait for the one before: it adds 1 to a number.
@group(0) @binding(0) var<storage, read_write> count: array<u32>;  // [1]

@compute @workgroup_size(1)
fn main() {
    count[0] += 1u;
}
