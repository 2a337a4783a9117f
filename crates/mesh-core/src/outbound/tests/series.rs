//! What a caller can make the process count.

use super::*;

/// Lines of the text that are samples.
fn samples(world: &World) -> usize {
    let text = world.outfit.recorder.render();
    let samples = text.lines().filter(|line| !line.is_empty());
    samples.filter(|line| !line.starts_with('#')).count()
}

#[tokio::test(start_paused = true)]
async fn o11_authorities_that_a_caller_makes_up_make_no_series() {
    let mut world = World::new();
    world.serve("api.shop:80", &[memory("one", Behaviour::Answers)]);
    world.plan(vec![rule(vec![to("api.shop:80", 1)])]);
    let mut before = None;
    for _ in 0..5_000 {
        let made_up = fastrand::u64(..);
        let response = world.get(&format!("http://api.shop/{made_up:x}")).await;
        text(response.unwrap()).await;
        let stranger = format!("http://{made_up:x}.example.com:{}/", made_up % 60_000);
        assert!(world.get(&stranger).await.is_err());
        before.get_or_insert_with(|| samples(&world));
    }
    assert_eq!(Some(samples(&world)), before);
}
