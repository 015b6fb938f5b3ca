//! Choosing from repositories as they are found at the hub.

use super::*;

fn items(files: &[(&str, u64)]) -> Vec<Item> {
    let item = |(path, size): &(&str, u64)| {
        let oid = "ab".repeat(32);
        let json = serde_json::json!({ "type": "file", "path": path, "size": 130, "oid": "x",
            "lfs": { "oid": oid, "size": size, "pointerSize": 130 } });
        serde_json::from_value(json).unwrap()
    };
    files.iter().map(item).collect()
}

fn chosen(files: &[(&str, u64)], wish: Option<&str>) -> Result<Vec<String>, Fault> {
    choose("a/b", &choices(&items(files)), wish).map(|choice| choice.files.into_iter().map(|item| item.path).collect())
}

const USUAL: [(&str, u64); 6] = [
    ("README.gguf.md", 10),
    ("M-7B-Instruct-Q8_0.gguf", 8 << 30),
    ("M-7B-Instruct-Q4_K_M.gguf", 4 << 30),
    ("M-7B-Instruct-IQ2_XXS.gguf", 2 << 30),
    ("mmproj-M-7B-F16.gguf", 1 << 30),
    ("imatrix.gguf", 1 << 20),
];

#[test]
fn the_usual_mix_is_taken_and_any_other_by_name() {
    assert_eq!(chosen(&USUAL, None).unwrap(), ["M-7B-Instruct-Q4_K_M.gguf"]);
    assert_eq!(chosen(&USUAL, Some("q8_0")).unwrap(), ["M-7B-Instruct-Q8_0.gguf"]);
    assert_eq!(chosen(&USUAL, Some("M-7B-Instruct-IQ2_XXS.gguf")).unwrap(), ["M-7B-Instruct-IQ2_XXS.gguf"]);
    let fault = chosen(&USUAL, Some("Q5_K_M")).unwrap_err();
    assert_eq!(fault.code, Code::ModelMissing);
    for offered in ["Q8_0 (8.0 GiB)", "Q4_K_M (4.0 GiB)", "IQ2_XXS"] {
        assert!(fault.message.contains(offered), "{fault}");
    }
    assert!(!fault.message.contains("mmproj"), "{fault}");
    assert_eq!(chosen(&[("x-BF16.gguf", 1), ("x-Q6_K.gguf", 1)], None).unwrap(), ["x-Q6_K.gguf"]);
    assert_eq!(chosen(&[("model.gguf", 1)], None).unwrap(), ["model.gguf"]);
    assert_eq!(chosen(&[("x-UD-Q4_K_XL.gguf", 1), ("x-Q8_0.gguf", 1)], None).unwrap(), ["x-UD-Q4_K_XL.gguf"]);
    assert_eq!(chosen(&[("x-UD-Q4_K_XL.gguf", 1)], Some("q4_k_xl")).unwrap(), ["x-UD-Q4_K_XL.gguf"]);
}

#[test]
fn split_models_are_whole_or_refused() {
    let parts =
        [("Q4_K_M/m-Q4_K_M-00002-of-00002.gguf", 5), ("Q4_K_M/m-Q4_K_M-00001-of-00002.gguf", 7), ("m-Q8_0.gguf", 9)];
    assert_eq!(chosen(&parts, None).unwrap(), [parts[1].0, parts[0].0]);
    let choice = choose("a/b", &choices(&items(&parts)), None).unwrap();
    assert_eq!((choice.bytes(), choice.tag.as_str()), (12, "Q4_K_M"));
    let fault = chosen(&parts[..1], Some("Q4_K_M")).unwrap_err();
    assert!(fault.message.contains("1 of the 2 parts"), "{fault}");
    assert_eq!(chosen(&[("Q5_K_M/model.gguf", 1), ("Q8_0/model.gguf", 1)], Some("q8_0")).unwrap(), ["Q8_0/model.gguf"]);
}

#[test]
fn several_of_one_mix_are_asked_about() {
    let two = [("a-1b-Q4_K_M.gguf", 1), ("a-3b-Q4_K_M.gguf", 1)];
    let fault = chosen(&two, None).unwrap_err();
    assert_eq!(fault.code, Code::InvalidAsk);
    assert!(fault.message.contains("a-1b") && fault.message.contains("a-3b"), "{fault}");
    assert!(fault.hints[0].contains("hf:a/b:a-1b-Q4_K_M.gguf"), "{:?}", fault.hints);
    assert_eq!(chosen(&two, Some("a-3b-Q4_K_M.gguf")).unwrap(), ["a-3b-Q4_K_M.gguf"]);
    assert_eq!(chosen(&[("x.gguf", 1), ("y.gguf", 1)], None).unwrap_err().code, Code::InvalidAsk);
}

#[test]
fn a_repository_without_gguf_says_where_to_look() {
    let fault = chosen(&[("model.safetensors", 1)], None).unwrap_err();
    assert!(fault.message.contains("no GGUF model") && fault.hints[0].contains("GGUF"), "{fault:?}");
}

#[test]
fn licences_are_found_wherever_repositories_state_them() {
    for (json, want) in [
        ("{\"cardData\":{\"license\":\"apache-2.0\"},\"tags\":[\"license:mit\"]}", "apache-2.0"),
        ("{\"tags\":[\"gguf\",\"license:mit\"]}", "mit"),
        ("{\"cardData\":{\"license\":[\"mit\",\"cc-by-4.0\"]}}", "mit, cc-by-4.0"),
        ("{\"cardData\":{\"license\":\"other\",\"license_name\":\"gemma\"}}", "gemma"),
        ("{\"cardData\":{\"license\":\"other\"}}", "other"),
        ("{\"cardData\":{}}", ""),
        ("{}", ""),
    ] {
        let about: About = serde_json::from_str(json).unwrap();
        assert_eq!(about.license(), want, "{json}");
    }
    let about = |sha: &str| serde_json::from_value::<About>(serde_json::json!({ "sha": sha })).unwrap();
    assert_eq!(about(&"0a".repeat(20)).revision(), "0a".repeat(20));
    assert_eq!(about("../../x").revision(), "main");
}
