//! The engine's interface for programs with a wgpu device of their own.

mod conformance;
mod networks;
mod refusals;
mod streams;

use gatefold::{Gpu, embed, wgpu};
use wgpu::util::DeviceExt;

/// Records, and submits.
fn encode(gpu: &Gpu, record: impl FnOnce(&mut wgpu::CommandEncoder)) {
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    record(&mut encoder);
    gpu.queue().submit([encoder.finish()]);
}

fn read(gpu: &Gpu, buffer: &wgpu::Buffer) -> Vec<f32> {
    let device = gpu.device();
    let staging = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: buffer.size(),
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    encode(gpu, |encoder| encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size()));
    staging.map_async(wgpu::MapMode::Read, .., |result| result.unwrap());
    device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    bytemuck::pod_collect_to_vec(&staging.get_mapped_range(..).unwrap())
}

/// The gradient of a parameter.
fn gradient(gpu: &Gpu, network: &embed::Network, name: &str) -> Vec<f32> {
    let slice = network.gradient(name).unwrap();
    let from = (slice.offset_bytes / 4) as usize;
    read(gpu, &slice.buffer)[from..from + (slice.size_bytes / 4) as usize].to_vec()
}

fn buffer(gpu: &Gpu, values: &[f32]) -> wgpu::Buffer {
    bytes(gpu, bytemuck::cast_slice(values))
}

/// Lengths of rows.
fn lengths(gpu: &Gpu, lengths: &[usize]) -> wgpu::Buffer {
    let lengths: Vec<u32> = lengths.iter().map(|&length| length as u32).collect();
    bytes(gpu, bytemuck::cast_slice(&lengths))
}

fn bytes(gpu: &Gpu, contents: &[u8]) -> wgpu::Buffer {
    gpu.device().create_buffer_init(&wgpu::util::BufferInitDescriptor {
        label: None,
        contents,
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
    })
}

/// A buffer that must be written: every value is wrong.
fn written(gpu: &Gpu, len: usize) -> wgpu::Buffer {
    buffer(gpu, &vec![7.0; len])
}
