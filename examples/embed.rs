//! The engine inside a program that owns its wgpu device. One command encoder holds the program's own compute pass and
//! an LSTM layer forward and backward, with no copy and no submission in between.
//!
//! The program's pass makes a batch of sine waves on the device, the layer reads them in place, and its last outputs
//! are read back. Then the same layer runs as a stream, one step at a time, and must reach the same state.
//!
//! ```text
//! cargo run --release --example embed
//! ```

use gatefold::embed::{BackwardBuffers, ForwardBuffers, RecurrentLayer};
use gatefold::{Gpu, LstmConfig, wgpu};
use std::error::Error;
use wgpu::util::DeviceExt;

const STEPS: usize = 50;
const BATCH: usize = 8;
const INPUT: usize = 4;
const HIDDEN: usize = 32;

const WAVES: &str = "
@group(0) @binding(0) var<storage, read_write> waves: array<f32>; // [50, 8, 4]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&waves) {
        let step = id.x / 32u;
        let series = id.x % 32u;
        waves[id.x] = sin(0.1 * f32(step) * (1.0 + 0.1 * f32(series)));
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
    let mut layer = RecurrentLayer::new(&gpu, INPUT, LstmConfig::new(HIDDEN), 1)?;

    // The program's buffers. They hold no initial states, so the layer takes its own, zeros.
    let buffer = |label: &str, len: usize| {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: 4 * len as u64,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    };
    let step_len = BATCH * HIDDEN;
    let forward = ForwardBuffers {
        input: buffer("waves", STEPS * BATCH * INPUT),
        lengths: None,
        start: Vec::new(),
        output: buffer("output", STEPS * step_len),
        last: Vec::new(),
    };
    let backward = BackwardBuffers {
        d_output: device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: Some("d_output"),
            contents: bytemuck::cast_slice(&vec![1.0f32; STEPS * step_len]),
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
        }),
        d_last: Vec::new(),
        d_start: Vec::new(),
        d_input: Some(buffer("d_waves", STEPS * BATCH * INPUT)),
    };
    let sequence = layer.sequence(STEPS, BATCH, &forward, Some(&backward))?;

    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("waves"),
        source: wgpu::ShaderSource::Wgsl(WAVES.into()),
    });
    let waves = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("waves"),
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some("waves"),
        layout: &waves.get_bind_group_layout(0),
        entries: &[wgpu::BindGroupEntry { binding: 0, resource: forward.input.as_entire_binding() }],
    });

    // One encoder, one submission: the program's pass, then the layer.
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&waves);
        pass.set_bind_group(0, &bindings, &[]);
        pass.dispatch_workgroups((STEPS * BATCH * INPUT).div_ceil(64) as u32, 1, 1);
    }
    layer.pack(&mut encoder);
    layer.clear_gradients(&mut encoder);
    sequence.forward(&mut encoder);
    sequence.backward(&mut encoder)?;
    queue.submit([encoder.finish()]);
    let h = read(&device, &queue, &forward.output)?;
    let last = &h[(STEPS - 1) * step_len..];
    println!("forward  {} kernels, last h of row 0: {:.4?} ...", sequence.dispatches().0, &last[..4]);
    let gradient = layer.gradient("rnn0.weight_hh_l0").ok_or("the layer has recurrent weights")?;
    let from = (gradient.offset_bytes / 4) as usize;
    let d_weights =
        &read(&device, &queue, &gradient.buffer)?[from..from + (gradient.size_bytes / 4) as usize];
    let norm = d_weights.iter().map(|d| d * d).sum::<f32>().sqrt();
    println!("backward {} kernels, norm of d weight_hh: {norm:.4}", sequence.dispatches().1);

    // The same series as a stream: one step in, one h out; the state stays on the device.
    let (now, output) = (buffer("now", BATCH * INPUT), buffer("h", step_len));
    let mut stream = layer.stream(BATCH, &now, &output)?;
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let step_bytes = now.size();
    for step in 0..STEPS {
        encoder.copy_buffer_to_buffer(&forward.input, step as u64 * step_bytes, &now, 0, step_bytes);
        stream.step(&mut encoder);
    }
    queue.submit([encoder.finish()]);
    let streamed = read(&device, &queue, &output)?;
    let worst = streamed.iter().zip(last).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("stream   {STEPS} steps, largest difference to the sequence: {worst:e}");
    if worst > 0.0 {
        return Err("the stream and the sequence differ".into());
    }
    Ok(())
}

/// The program's own read-back.
fn read(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    buffer: &wgpu::Buffer,
) -> Result<Vec<f32>, Box<dyn Error>> {
    let staging = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("read-back"),
        size: buffer.size(),
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
    queue.submit([encoder.finish()]);
    staging.map_async(wgpu::MapMode::Read, .., |_| ());
    device.poll(wgpu::PollType::wait_indefinitely())?;
    Ok(bytemuck::pod_collect_to_vec(&staging.get_mapped_range(..)?))
}
