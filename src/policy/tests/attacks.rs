//! Drill D23: scripts that would run on, grow, wait or crash end soon, and only their own call fails.

use super::{load, names, request};
use crate::base::clock::Clock;
use crate::policy::engine::Sandbox;
use crate::policy::hook::Hook;
use crate::policy::{Limits, Policy};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Runs a hook body under the default limits; gives the failure's name and the time it took.
fn attack(source: &str) -> (String, Duration) {
    let whole =
        if source.contains("fn on_request") { source.to_owned() } else { format!("fn on_request(req) {{ {source} }}") };
    let policy = Policy::load(&whole, "p.rhai", &names(), &Limits::default(), &Clock::system());
    let policy = policy.unwrap_or_else(|faults| panic!("{source}: {faults:?}"));
    let req = Arc::new(request("/"));
    let started = Instant::now();
    let result = policy.on_request(&req);
    let took = started.elapsed();
    (result.map_or_else(|e| e.as_str().to_owned(), |_| "decided".to_owned()), took)
}

#[test]
fn d23_every_hostile_script_ends_within_its_deadline() {
    let over = ["too_many_operations", "too_slow"];
    let large = ["too_large", "script_error", "too_slow", "too_many_operations"];
    for (source, expected) in [
        ("loop { }", &over[..]),
        ("let n = 0; while true { n += 1 }", &over),
        // An empty loop over a range is folded away.
        ("for i in 0..9000000000000000000 { }", &["decided"]),
        ("let n = 0; for i in 0..9000000000000000000 { n += 1 }", &over),
        ("let s = \"\"; loop { s.pad(16000, \"x\"); s = s.to_upper(); s.clear(); }", &over),
        ("let a = []; loop { a.push(\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\") }", &large),
        ("let s = \"x\"; loop { s += s }", &large),
        ("let s = \"\"; s.pad(65000, \"x\"); s", &large),
        ("let s = \"\"; s.pad(16000, \"a\"); let t = s; s.replace(\"a\", t); s", &large),
        ("let m = #{}; let i = 0; loop { m[`k${i}`] = i; i += 1 }", &large),
        ("let a = [1]; loop { a = [a, a] }", &large),
        ("let a = [0]; a.pad(100000000, 0); a", &large),
        ("throw \"no\"", &["script_error"]),
        ("let d = next(); loop { d.note(\"k\", 1) }", &["script_error"]),
        ("try { loop { } } catch { next() }", &over),
        ("fn f(n) { f(n + 1) } fn on_request(req) { f(0) }", &["too_large"]),
        ("let x = 9223372036854775807; x + 1", &["script_error"]),
        ("let a = [1]; a[5]", &["script_error"]),
    ] {
        let (what, took) = attack(source);
        // On a machine that is busy enough, anything can take longer than 5 ms.
        assert!(expected.contains(&what.as_str()) || what == "too_slow", "{source}: {what}");
        assert!(took < Duration::from_millis(500), "{source}: {took:?}");
    }
}

#[test]
fn d23_a_deadline_holds_where_operations_are_many() {
    let limits = Limits { max_operations: 10_000_000, ..Limits::default() };
    let source = "fn on_request(req) { let s = \"\"; loop { s.pad(16000, \"x\"); s.to_upper(); s.clear(); } }";
    let policy = Policy::load(source, "p.rhai", &names(), &limits, &Clock::system()).unwrap();
    let started = Instant::now();
    assert_eq!(policy.on_request(&Arc::new(request("/"))).unwrap_err().as_str(), "too_slow");
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
}

#[test]
fn the_deepest_script_that_the_limits_allow_fits_the_stack_of_a_worker() {
    // Calls nested to the limit, each inside the deepest expression that compiles.
    let compiled = (1..64).rev().find_map(|depth| {
        let (open, close) = ("(1+".repeat(depth), ")".repeat(depth));
        let source = format!("fn f(n) {{ {open} f(n + 1) {close} }} fn on_request(req) {{ f(0) }}");
        Policy::load(&source, "p.rhai", &names(), &super::roomy(), &Clock::system()).ok()
    });
    let policy = compiled.expect("some depth compiles");
    let worker = std::thread::Builder::new().stack_size(2 << 20);
    let run = worker.spawn(move || policy.on_request(&Arc::new(request("/"))).unwrap_err().as_str());
    assert_eq!(run.unwrap().join().unwrap(), "too_large");
}

#[test]
fn a_panic_in_a_host_function_is_an_error_of_its_call_only() {
    let clock = Clock::system();
    let mut sandbox = Sandbox::new(super::roomy(), &clock, &Arc::default());
    sandbox.engine.register_fn("boom", || -> i64 { panic!("a bug of ours") });
    let ast = sandbox.engine.compile("fn on_request() { boom() } fn on_log() { 1 }").unwrap();
    let e = sandbox.call("p.rhai", &ast, Hook::OnRequest, ()).unwrap_err();
    assert_eq!(e.as_str(), "host_panic");
    assert_eq!(sandbox.call("p.rhai", &ast, Hook::OnLog, ()).unwrap().as_int(), Ok(1));
}

#[test]
fn waiting_and_reflection_do_not_exist_even_past_the_checks() {
    let sandbox = Sandbox::new(super::roomy(), &Clock::system(), &Arc::default());
    for source in ["sleep(10)", "sleep(10.0)", "[10].for_each(|x| sleep(x))", "timestamp()", "blob(5)"] {
        let ast = sandbox.engine.compile(format!("fn on_request() {{ {source} }}")).unwrap();
        let started = Instant::now();
        assert_eq!(sandbox.call("p", &ast, Hook::OnRequest, ()).unwrap_err().as_str(), "script_error", "{source}");
        assert!(started.elapsed() < Duration::from_millis(500), "{source}");
    }
    for source in ["eval(\"1\")", "Fn(\"sleep\").call(10)", "import \"x\" as y;"] {
        assert!(sandbox.engine.compile(source).is_err(), "{source}");
    }
}

#[test]
fn a_verb_that_slips_past_the_checks_is_refused_at_run_time() {
    let sandbox = Sandbox::new(super::roomy(), &Clock::system(), &Arc::default());
    let ast = sandbox.engine.compile("fn on_log() { next().tier(\"cheap\") }").unwrap();
    let e = sandbox.call("p", &ast, Hook::OnLog, ()).unwrap_err();
    assert_eq!(e.message, "tier cannot be used in on_log (only in on_prompt)");
    let ast = sandbox.engine.compile("const D = next();").unwrap();
    assert!(sandbox.constants(&ast).unwrap_err().to_string().contains("only be used inside a hook"));
}

#[test]
fn long_input_of_a_client_is_cut_and_does_not_make_the_script_fail() {
    let policy = load("fn on_request(req) { next().note(\"n\", req.path.len()) }");
    let decision = policy.on_request(&Arc::new(request(&"/\u{e4}".repeat(20_000)))).unwrap();
    assert!(format!("{decision:?}").contains("10922") || format!("{decision:?}").contains("10923"), "{decision:?}");
}

#[test]
fn a_source_that_is_too_long_is_not_compiled() {
    let source = "//".repeat(200_000);
    let faults = Policy::load(&source, "p.rhai", &names(), &Limits::default(), &Clock::system()).unwrap_err();
    assert_eq!(faults[0].to_string(), "p.rhai: the script has 400000 bytes; at most 262144 are read");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_bytes_as_a_script_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        let _ = Policy::load(&String::from_utf8_lossy(&bytes), "p", &names(), &Limits::default(), &Clock::system());
    }

    #[test]
    fn arbitrary_tokens_as_a_script_never_panic(tokens in proptest::collection::vec(proptest::sample::select(vec![
        "fn ", "on_request", "(req)", "{", "}", "(", ")", "next", ".", "tier", "\"cheap\"", "const ", "A", "=", "1", ";",
        "|x|", "if ", "else ", "loop", "let ", "a", "[", "]", "#{", ":", ",", "`${", "}`", "return ", "+", "switch ", "=>",
    ]), 0..40)) {
        let _ = Policy::load(&tokens.concat(), "p", &names(), &Limits::default(), &Clock::system());
    }
}

/// The deadline is looked at between operations, so no single native one may take long on the largest values allowed.
#[test]
fn d23_no_native_operation_outlasts_the_deadline_on_the_largest_values() {
    let limits = Limits { max_operations: 10_000_000, max_time: Duration::from_millis(20) };
    for op in [
        "s.split(\"\")",
        "s.to_chars()",
        "s.to_upper()",
        "s.index_of(\"b\")",
        "s.contains(h)",
        "s.remove(\"a\")",
        "s.matches(\"(a|aa)+$b\")",
        "s.glob(\"**/*a*a*a*a*a*a*b\")",
        "sha256(s)",
        "to_json(s)",
        "url_encode(s)",
        "s[15000] = 'b'",
        "for c in s { }",
        "a.sort()",
        "a.dedup()",
        "a.contains(7)",
        "a == a",
        "a.to_string()",
        "to_debug(a)",
        "a + a",
        "for x in a { a.sort(); }",
        "a.drain(|x| false)",
        "m.keys()",
        "m == m",
        "m + m",
        "to_json(m)",
        "a.map(|x| s)",
        "a.order(|x, y| x - y)",
        "let b = [a]; b += a",
    ] {
        let source = format!(
            "fn on_request(req) {{ let s = \"\"; s.pad(16000, \"a\"); let h = \"\"; h.pad(8000, \"a\"); h += \"b\"; \
             let a = []; a.pad(900, 5); let m = #{{}}; for i in 0..100 {{ m[`k${{i}}`] = i; }} loop {{ {op}; }} }}"
        );
        let policy = Policy::load(&source, "p", &names(), &limits, &Clock::system());
        let policy = policy.unwrap_or_else(|f| panic!("{op}: {}", f[0]));
        let started = Instant::now();
        let e = policy.on_request(&Arc::new(request("/"))).unwrap_err();
        let took = started.elapsed();
        assert!(["too_slow", "too_large", "script_error"].contains(&e.as_str()), "{op}: {e}");
        assert!(took < limits.max_time + Duration::from_millis(250), "{op}: {took:?}");
    }
}

#[test]
fn a_limit_error_names_the_line_of_its_hook() {
    // Rhai drops the position of these errors on the way out of a function.
    let e = load("\n\nfn on_request(req) {\n loop { }\n}").on_request(&Arc::new(request("/"))).unwrap_err();
    assert_eq!(e.to_string(), "policy.rhai:3:1: took more than max_operations (in on_request)");
}

#[test]
fn a_regular_expression_that_would_be_slow_on_long_text_is_refused_at_load() {
    let source = "fn on_request(req) { req.path.matches(\"(?:a{1,50}b?){1,40}c\"); }";
    let faults = Policy::load(source, "p", &names(), &Limits::default(), &Clock::system()).unwrap_err();
    assert!(
        faults[0].message.starts_with("bad regular expression: Compiled regex exceeds size limit"),
        "{}",
        faults[0]
    );
}
