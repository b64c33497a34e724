//! peer-burn --backend wgpu|cpu|flex|ndarray --shape B,T,I,H --layers N --mode infer|train
//!           [--iters K] [--warmup K] [--out O] [--budget SECONDS] [--checkpointing] [--packed]
use burn::module::Module;
use burn::nn::loss::{MseLoss, Reduction};
use burn::nn::{Linear, LinearConfig, Lstm, LstmConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::prelude::*;
use burn::tensor::{DeviceKind, Distribution};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

#[cfg(feature = "counted")]
unsafe extern "C" {
    static PEER_DISPATCHES: AtomicU64;
    static PEER_SUBMITS: AtomicU64;
}
fn counts() -> (u64, u64) {
    #[cfg(feature = "counted")]
    unsafe {
        return (PEER_DISPATCHES.load(Ordering::Relaxed), PEER_SUBMITS.load(Ordering::Relaxed));
    }
    #[allow(unreachable_code, reason = "the line above returns where dispatches are counted")]
    (0, 0)
}

/// An LSTM as a careful user would write it with burn's public tensor API (not burn-nn's Lstm): the input
/// projection of all gates hoisted out of the time loop, one recurrent matmul a step.
#[derive(Module, Debug)]
struct Packed {
    ih: Linear,
    hh: Linear,
    hidden: usize,
}
impl Packed {
    fn new(i: usize, h: usize, d: &Device) -> Self {
        Packed {
            ih: LinearConfig::new(i, 4 * h).init(d),
            hh: LinearConfig::new(h, 4 * h).with_bias(false).init(d),
            hidden: h,
        }
    }
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [b, t, _] = x.dims();
        let dev = x.device();
        let steps = self.ih.forward(x).split(1, 1);
        let mut h = Tensor::<2>::zeros([b, self.hidden], &dev);
        let mut c = Tensor::<2>::zeros([b, self.hidden], &dev);
        let mut outs = Vec::with_capacity(t);
        for xt in steps {
            let g = xt.squeeze_dim::<2>(1) + self.hh.forward(h);
            let mut g = g.chunk(4, 1).into_iter();
            let i = burn::tensor::activation::sigmoid(g.next().unwrap());
            let f = burn::tensor::activation::sigmoid(g.next().unwrap());
            let u = g.next().unwrap().tanh();
            let o = burn::tensor::activation::sigmoid(g.next().unwrap());
            c = f * c + i * u;
            h = o * c.clone().tanh();
            outs.push(h.clone());
        }
        Tensor::stack(outs, 1)
    }
}

#[derive(Module, Debug)]
struct Net {
    layers: Vec<Lstm>,
    packed: Vec<Packed>,
    head: Linear,
}
impl Net {
    fn new(i: usize, h: usize, n: usize, o: usize, packed: bool, d: &Device) -> Self {
        let np = if packed { n } else { 0 };
        let layers =
            (0..n - np).map(|l| LstmConfig::new(if l == 0 { i } else { h }, h, true).init(d)).collect();
        let packed = (0..np).map(|l| Packed::new(if l == 0 { i } else { h }, h, d)).collect();
        Net { layers, packed, head: LinearConfig::new(h, o).init(d) }
    }
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let mut x = x;
        for l in &self.layers {
            x = l.forward(x, None).0;
        }
        for l in &self.packed {
            x = l.forward(x);
        }
        self.head.forward(x)
    }
}

fn rss_mib() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|s| {
            s.lines()
                .find(|l| l.starts_with("VmHWM"))
                .and_then(|l| l.split_whitespace().nth(1).and_then(|v| v.parse::<u64>().ok()))
        })
        .unwrap_or(0)
        / 1024
}

fn main() {
    let mut backend = "wgpu".to_string();
    let mut shape = vec![1usize, 25, 100, 100];
    let (mut layers, mut iters, mut warmup, mut out) = (1usize, 7usize, 2usize, 1usize);
    let mut budget = 60.0f64;
    let mut mode = "train".to_string();
    let mut ckpt = false;
    let mut packed = false;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut k = 0;
    while k < args.len() {
        let v = |k: usize| args.get(k + 1).expect("value").clone();
        match args[k].as_str() {
            "--backend" => backend = v(k),
            "--shape" => shape = v(k).split(',').map(|s| s.parse().unwrap()).collect(),
            "--layers" => layers = v(k).parse().unwrap(),
            "--mode" => mode = v(k),
            "--iters" => iters = v(k).parse().unwrap(),
            "--warmup" => warmup = v(k).parse().unwrap(),
            "--out" => out = v(k).parse().unwrap(),
            "--budget" => budget = v(k).parse().unwrap(),
            "--packed" => {
                packed = true;
                k += 1;
                continue;
            }
            "--checkpointing" => {
                ckpt = true;
                k += 1;
                continue;
            }
            a => panic!("unknown argument {a}"),
        }
        k += 2;
    }
    let (b, t, i, h) = (shape[0], shape[1], shape[2], shape[3]);
    let base: Device = match backend.as_str() {
        "wgpu" => Device::wgpu(DeviceKind::DefaultDevice),
        "wgpu-cpu" => Device::wgpu(DeviceKind::Cpu),
        "cpu" | "flex" => Device::flex(),
        "ndarray" => Device::ndarray(),
        o => panic!("unknown backend {o}"),
    };
    base.seed(42);
    let ad = {
        let d = base.clone().autodiff();
        if ckpt { d.gradient_checkpointing() } else { d }
    };
    let train = mode == "train";
    let mut model = Net::new(i, h, layers, out, packed, &ad);
    let imodel = model.clone().valid();
    let mut optim = AdamConfig::new().init();
    let data_dev = if train { &ad } else { &base };
    let x = Tensor::<3>::random([b, t, i], Distribution::Normal(0.0, 1.0), data_dev);
    let y = Tensor::<3>::random([b, t, out], Distribution::Normal(0.0, 1.0), data_dev);
    base.sync().unwrap();

    let mut times = vec![];
    let (mut d1, mut s1) = (0, 0);
    let mut losses = vec![];
    let start = Instant::now();
    for it in 0..(warmup + iters) {
        let (c0, u0) = counts();
        let t0 = Instant::now();
        if train {
            let o = model.forward(x.clone());
            let loss = MseLoss::new().forward(o, y.clone(), Reduction::Mean);
            let grads = loss.backward();
            let grads = GradientsParams::from_grads(grads, &model);
            model = optim.step(1e-3, model, grads);
            base.sync().unwrap();
            let ms = t0.elapsed().as_secs_f64() * 1e3;
            let (c1, u1) = counts();
            (d1, s1) = (c1 - c0, u1 - u0);
            times.push(ms);
            losses.push(loss.into_scalar::<f32>());
        } else {
            let o = imodel.forward(x.clone());
            base.sync().unwrap();
            let ms = t0.elapsed().as_secs_f64() * 1e3;
            let (c1, u1) = counts();
            (d1, s1) = (c1 - c0, u1 - u0);
            times.push(ms);
            // consume afterwards: proves the output was really computed by the sync
            let t1 = Instant::now();
            let v = o.slice([b - 1..b, t - 1..t, 0..1]).into_scalar::<f32>();
            losses.push(v);
            let rb = t1.elapsed().as_secs_f64() * 1e3;
            if it == warmup {
                eprintln!("  (readback after sync {rb:.2} ms)");
            }
        }
        let last = *times.last().unwrap();
        eprintln!("  iter {it}: {last:.2} ms dispatches {d1} submits {s1}");
        if it >= warmup.min(1) && last > budget * 1e3 {
            println!("SKIP one iteration took {:.1} s > {budget} s", last / 1e3);
            times = vec![last];
            break;
        }
        if start.elapsed().as_secs_f64() > budget * 1.5 && it > warmup {
            break;
        }
    }
    let first = times[0];
    let mut m: Vec<f64> = if times.len() > warmup { times[warmup..].to_vec() } else { times.clone() };
    m.sort_by(|a, b| a.partial_cmp(b).unwrap());
    println!(
        "RESULT backend={backend}{} mode={mode} layers={layers} shape={b},{t},{i},{h} out={out} median_ms={:.3} min_ms={:.3} n={} first_ms={first:.1} dispatches={d1} submits={s1} peak_rss_mib={} v0={:.5} vN={:.5}",
        if packed { "+packed" } else { "" },
        m[m.len() / 2],
        m[0],
        m.len(),
        rss_mib(),
        losses[0],
        losses[losses.len() - 1]
    );
}
