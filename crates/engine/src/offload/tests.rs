use super::*;
use proptest::prelude::*;

const GIB: u64 = 1 << 30;

fn device(free: u64) -> Device {
    Device { name: "GPU".into(), kind: DeviceKind::Discrete, free }
}

/// 32 layers of a quarter of a GiB with keys and values of a sixteenth, an output of half a GiB.
fn dense() -> Sizes {
    let layer = Layer { shared: GIB / 4, experts: 0, kv: GIB / 16 };
    Sizes { layers: vec![layer; 32], output: GIB / 2, compute: GIB / 4 }
}

/// A model of 30B with 3B at a time: most of a layer is experts.
fn moe() -> Sizes {
    let layer = Layer { shared: GIB / 32, experts: GIB / 3, kv: GIB / 64 };
    Sizes { layers: vec![layer; 48], output: GIB / 4, compute: GIB / 4 }
}

#[test]
fn what_fits_goes_to_the_gpu() {
    let of = |devices: &[Device]| split(&dense(), devices);
    let none = of(&[]);
    assert_eq!((none.gpu_layers, none.cpu_bytes), (0, total(&dense())));
    let all = of(&[device(24 * GIB)]);
    assert_eq!(
        (all.gpu_layers, all.per_device.as_slice(), all.cpu_bytes, all.kv_on_gpu),
        (33, [33].as_slice(), 0, true)
    );
    // 8 GiB less the sixteenth and a quarter: 7.25; less the output: 21 layers.
    let part = of(&[device(8 * GIB)]);
    assert_eq!((part.gpu_layers, part.per_device.as_slice()), (22, [22].as_slice()));
    // The fastest is filled first.
    let two = of(&[device(8 * GIB), device(8 * GIB)]);
    assert_eq!((two.gpu_layers, two.per_device.as_slice()), (33, [23, 10].as_slice()));
    let small_first = of(&[device(GIB / 2), device(24 * GIB)]);
    assert_eq!(small_first.per_device, [0, 33]);
    assert_eq!(of(&[device(GIB)]).gpu_layers, 0, "an output alone isn't worth the way");
}

#[test]
fn experts_come_after_everybodys_weights() {
    let of = |free| split(&moe(), &[device(free)]);
    let all = of(24 * GIB);
    assert_eq!((all.gpu_layers, all.cpu_experts.len()), (49, 0));
    // 8 GiB: all attention (2.5 GiB with its cache), and the experts of some layers, the last ones.
    let part = of(8 * GIB);
    assert_eq!(part.gpu_layers, 49);
    let with_experts = 48 - part.cpu_experts.len();
    assert!((10..20).contains(&with_experts), "{part:?}");
    assert_eq!(part.cpu_experts, (0..part.cpu_experts.len() as u32).collect::<Vec<_>>());
    // 2 GiB: not even all attention.
    let little = of(2 * GIB);
    assert!(little.gpu_layers > 1 && little.gpu_layers < 49, "{little:?}");
    assert_eq!(little.cpu_experts.len() as u32, little.gpu_layers - 1);
}

#[test]
fn what_is_not_faster_is_left_alone() {
    let kind = |kind, free| Device { kind, ..device(free) };
    assert_eq!(split(&dense(), &[kind(DeviceKind::Software, 100 * GIB)]).gpu_layers, 0);
    let integrated = kind(DeviceKind::Integrated, 24 * GIB);
    assert_eq!(split(&dense(), std::slice::from_ref(&integrated)).gpu_layers, 33);
    assert_eq!(split(&dense(), &[integrated, device(8 * GIB)]).per_device, [0, 22]);
}

#[test]
fn a_window_too_large_for_any_layer_stays_with_the_processor() {
    let layer = Layer { shared: GIB / 8, experts: 0, kv: 6 * GIB };
    let sizes = Sizes { layers: vec![layer; 16], output: GIB / 8, compute: 0 };
    let split = split(&sizes, &[device(6 * GIB)]);
    assert_eq!((split.gpu_layers, split.kv_on_gpu), (17, false));
    assert_eq!(split.cpu_bytes, 16 * 6 * GIB);
}

#[test]
fn a_header_that_says_nothing_of_layers_is_taken_as_even() {
    let facts = ModelFacts {
        layers: 4,
        weights_bytes: 1000,
        kv_bytes_per_token: 8,
        ..testkit::model::facts("m", base::Modality::Chat)
    };
    let even = sizes(&facts, 10, 5);
    assert_eq!(even.layers, vec![Layer { shared: 200, experts: 0, kv: 20 }; 4]);
    assert_eq!((even.output, even.compute), (200, 5));
    let run = |layers, bytes, expert_bytes| base::LayerRun { layers, bytes, expert_bytes, kv_bytes_per_token: 3 };
    let told = sizes(&ModelFacts { layer_runs: vec![run(1, 7, 0), run(3, 9, 4)], output_bytes: 11, ..facts }, 10, 5);
    assert_eq!(told.layers[0], Layer { shared: 7, experts: 0, kv: 30 });
    assert_eq!(told.layers[3], Layer { shared: 5, experts: 4, kv: 30 });
    assert_eq!((told.layers.len(), told.output), (4, 11));
}

fn model() -> impl Strategy<Value = Sizes> {
    let layer = (1_u64..400, prop_oneof![Just(0), 1_u64..2000], 0_u64..200);
    let layer =
        layer.prop_map(|(shared, experts, kv)| Layer { shared: shared << 20, experts: experts << 20, kv: kv << 20 });
    (prop::collection::vec(layer, 0..40), 1_u64..1000, 0_u64..500).prop_map(|(layers, output, compute)| Sizes {
        layers,
        output: output << 20,
        compute: compute << 20,
    })
}

fn devices() -> impl Strategy<Value = Vec<Device>> {
    let kind = prop_oneof![4 => Just(DeviceKind::Discrete), 1 => Just(DeviceKind::Integrated), 1 => Just(DeviceKind::Software)];
    prop::collection::vec((kind, 0_u64..20_000).prop_map(|(kind, free)| Device { kind, ..device(free << 20) }), 0..5)
}

proptest! {
    #[test]
    fn nothing_is_filled_beyond_what_is_free_and_everything_lies_somewhere_once(sizes in model(), devices in devices()) {
        let split = split(&sizes, &devices);
        prop_assert_eq!((split.per_device.len(), split.device_bytes.len()), (devices.len(), devices.len()));
        for (device, (parts, bytes)) in devices.iter().zip(split.per_device.iter().zip(&split.device_bytes)) {
            let most = device.free.saturating_sub(MARGIN_BYTES_MIN).saturating_sub(sizes.compute);
            prop_assert!(*bytes <= most, "{} on a device with {}", bytes, device.free);
            prop_assert!(device.kind != DeviceKind::Software || (*parts, *bytes) == (0, 0));
        }
        prop_assert_eq!(split.per_device.iter().sum::<u32>(), split.gpu_layers);
        prop_assert_eq!(split.device_bytes.iter().sum::<u64>() + split.cpu_bytes, total(&sizes));
        let first = (sizes.layers.len() + 1).saturating_sub(split.gpu_layers as usize);
        prop_assert!(split.cpu_experts.is_sorted() && split.cpu_experts.iter().all(|&at| at as usize >= first));
        // Attention first: where experts lie on a GPU, every layer's attention does.
        let experts = (first..sizes.layers.len()).filter(|&at| sizes.layers[at].experts > 0);
        let on_gpu = experts.filter(|&at| split.gpu_layers > 0 && !split.cpu_experts.contains(&(at as u32))).count();
        prop_assert!(on_gpu == 0 || split.gpu_layers as usize == sizes.layers.len() + 1);
    }

    #[test]
    fn more_memory_never_takes_anything_off_the_gpus(
        sizes in model(),
        mut devices in devices(),
        which in any::<prop::sample::Index>(),
        more in 0_u64..10_000,
    ) {
        prop_assume!(!devices.is_empty());
        let before = split(&sizes, &devices);
        let place = which.index(devices.len());
        devices[place].free += more << 20;
        let after = split(&sizes, &devices);
        prop_assert!(after.gpu_layers >= before.gpu_layers || after.kv_on_gpu && !before.kv_on_gpu);
        let off = |split: &Split| split.cpu_experts.len();
        prop_assert!(after.gpu_layers > before.gpu_layers || !before.kv_on_gpu || off(&after) <= off(&before));
    }
}
