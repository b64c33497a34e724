//! A network between the compute passes of a program that owns its wgpu device. Everything stays on the device: the program
//! makes sine waves there, the network predicts each next value of them, the program turns its outputs into the gradient of
//! a loss of its own, the network goes back along it, and the program changes the parameters. An update is one submission,
//! without a copy.
//!
//! ```text
//! cargo run --release --example embed
//! ```

use gatefold::embed::{self, BackwardBuffers, ForwardBuffers};
use gatefold::{Gpu, NetworkConfig, wgpu};
use std::error::Error;

const STEPS: usize = 50;
const BATCH: usize = 8;
const UPDATES: usize = 200;

const SHADERS: &str = "
@group(0) @binding(0) var<storage, read_write> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> b: array<f32>;

fn wave(step: u32, series: u32) -> f32 {
    return sin(0.3 * f32(step) * (1.0 + 0.2 * f32(series)) + f32(series));
}

// a, the waves [50, 8, 1].
@compute @workgroup_size(64)
fn make_waves(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&a) {
        a[id.x] = wave(id.x / 8u, id.x % 8u);
    }
}

// b, the gradient of the mean squared error with respect to a, the predictions of the next step.
@compute @workgroup_size(64)
fn error_gradient(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&a) {
        b[id.x] = 2.0 * (a[id.x] - wave(id.x / 8u + 1u, id.x % 8u)) / f32(arrayLength(&a));
    }
}

// a, the parameters, go down along b, their gradients.
@compute @workgroup_size(64)
fn descend(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&a) {
        a[id.x] -= 0.3 * b[id.x];
    }
}";

fn main() -> Result<(), Box<dyn Error>> {
    // The program opens its device as it likes. The engine uses immediates and subgroups if they are enabled.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))?;
    let descriptor = wgpu::DeviceDescriptor {
        required_features: adapter.features() & (wgpu::Features::IMMEDIATES | wgpu::Features::SUBGROUP),
        required_limits: adapter.limits(),
        ..wgpu::DeviceDescriptor::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))?;
    let gpu = Gpu::from_device(device.clone(), queue.clone());
    println!("device   {}", gpu.summary());

    let config = NetworkConfig::with_input(1).lstm(16).dense(1).build()?;
    let network = embed::Network::new(&gpu, &config, 1)?;
    let buffer = |label: &str| {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: (4 * STEPS * BATCH) as u64,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    };
    let (waves, predictions, slopes) = (buffer("waves"), buffer("predictions"), buffer("slopes"));
    let forward = ForwardBuffers::new(&waves, &predictions);
    let sequence = network.sequence(STEPS, BATCH, &forward, Some(&BackwardBuffers::new(&slopes)))?;
    println!("network  {config}");

    // A network as small has all of its parameters in one buffer, and all gradients in another.
    let name = "rnn0.weight_ih_l0";
    let parameters = network.parameter(name).ok_or("an LSTM has input weights")?.buffer;
    let gradients = network.gradient(name).ok_or("each has a gradient")?.buffer;
    let make_waves = Pass::new(&device, "make_waves", &[&waves]);
    let error_gradient = Pass::new(&device, "error_gradient", &[&predictions, &slopes]);
    let descend = Pass::new(&device, "descend", &[&parameters, &gradients]);

    let mut errors = Vec::new();
    for update in 0..=UPDATES {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        make_waves.record(&mut encoder);
        network.pack(&mut encoder);
        network.clear_gradients(&mut encoder);
        sequence.forward(&mut encoder);
        error_gradient.record(&mut encoder);
        sequence.backward(&mut encoder)?;
        descend.record(&mut encoder);
        queue.submit([encoder.finish()]);
        if update == 0 || update == UPDATES {
            errors.push(mean_error(&device, &queue, &slopes)?);
        }
    }
    println!("error    {:.3} at first, {:.3} after {UPDATES} updates", errors[0], errors[1]);
    if errors[1] > 0.2 * errors[0] {
        return Err("the network learned nothing".into());
    }
    Ok(())
}

/// A compute pass of the program's own, with one invocation for each element of its first buffer.
struct Pass {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    groups: u32,
}

impl Pass {
    fn new(device: &wgpu::Device, entry_point: &str, buffers: &[&wgpu::Buffer]) -> Pass {
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(entry_point),
            source: wgpu::ShaderSource::Wgsl(SHADERS.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(entry_point),
            layout: None,
            module: &module,
            entry_point: Some(entry_point),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let resources = buffers.iter().map(|buffer| buffer.as_entire_binding());
        let entry = |(binding, resource)| wgpu::BindGroupEntry { binding, resource };
        let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(entry_point),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &(0..).zip(resources).map(entry).collect::<Vec<_>>(),
        });
        Pass { pipeline, bindings, groups: (buffers[0].size() as u32 / 4).div_ceil(64) }
    }

    fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        pass.dispatch_workgroups(self.groups, 1, 1);
    }
}

/// The error, from its gradient `2 error / len`.
fn mean_error(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    slopes: &wgpu::Buffer,
) -> Result<f32, Box<dyn Error>> {
    let (sender, receiver) = std::sync::mpsc::channel();
    wgpu::util::DownloadBuffer::read_buffer(device, queue, &slopes.slice(..), move |found| {
        drop(sender.send(found));
    });
    device.poll(wgpu::PollType::wait_indefinitely())?;
    let slopes: Vec<f32> = bytemuck::pod_collect_to_vec(&receiver.recv()??);
    let len = slopes.len() as f32;
    Ok(slopes.iter().map(|slope| (slope * len / 2.0).powi(2)).sum::<f32>() / len)
}
