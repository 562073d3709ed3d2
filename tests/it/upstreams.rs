//! Groups of origin servers: one that is down costs no request.

use crate::harness::client::get;
use crate::harness::edge::Setup;
use crate::harness::origin::Origin;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_two_servers_down_fails_no_request_of_many_at_once() {
    let origin = Origin::fixed("up").await;
    let down = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let yaml = "
upstreams: { app: { servers: [\"$DOWN\", \"$ORIGIN\"] } }
routes: [ { upstream: app } ]
";
    let edge = Setup::new(yaml).put("ORIGIN", origin.address).put("DOWN", down).start().await;
    let web = edge.web();
    let all: Vec<_> = (0..200).map(|_| tokio::spawn(async move { get(web, "/").await })).collect();
    for one in all {
        let answer = one.await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "up"));
    }
}
