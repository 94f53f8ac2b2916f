"""Where requests go: prompts that begin alike to the group that has computed their beginning."""

import unittest

from cluster import Cluster, ask, wait_for

BLOCK = 32
PROMPTS = [[1, *(300 + 97 * number + i for i in range(3 * BLOCK))] for number in range(4)]


class PrefixAffinityTest(unittest.TestCase):
    def cached(self, cluster):
        """Tokens that were found computed, of each prompt's second and third time."""
        ready = f'yangtuo_workers_ready{{model="{cluster.model_name}"}}'
        wait_for(lambda: cluster.gateway.metrics().get(ready) == 2, "both groups are ready")
        counts = []
        with cluster.stub() as stub:
            for _ in range(3):
                for prompt in PROMPTS:
                    answer = ask(stub, prompt, max_new_tokens=2, ignore_eos=True)
                    counts.append(answer.finished.usage.cached_prompt_tokens)
        self.assertEqual(counts[:len(PROMPTS)], [0] * len(PROMPTS))
        return counts[len(PROMPTS):]

    def test_a_prompt_goes_where_its_beginning_was_computed(self):
        with Cluster(groups=2) as cluster:
            self.assertEqual(self.cached(cluster), [3 * BLOCK] * (2 * len(PROMPTS)))
            self.assertEqual(cluster.gateway.metrics()['yangtuo_routed_total{by="prefix"}'], 2 * len(PROMPTS))
            used = [leader.metric("yangtuo_prompt_tokens_total") for leader in cluster.leaders()]
            self.assertTrue(all(used), f"both groups get prompts: {used}")

    def test_what_a_lost_group_had_is_forgotten_and_the_rest_is_not(self):
        with Cluster(groups=2, lasting=True) as cluster:
            self.cached(cluster)
            worker = cluster.leaders()[0]
            lost = worker.metric("yangtuo_prefix_cache_hits_total") // (2 * 3 * BLOCK)
            worker.kill()
            worker.start().wait_ports()
            wait_for(lambda: worker.http("/readyz")[0] == 200, "the worker is ready again")
            wait_for(lambda: cluster.gateway.metrics()[f'yangtuo_worker_up{{worker="{worker.address()}"}}'] == 1, "the gateway sees it")
            with cluster.stub() as stub:
                found = [ask(stub, prompt, max_new_tokens=2, ignore_eos=True).finished.usage.cached_prompt_tokens
                         for prompt in PROMPTS]
            self.assertEqual(sorted(found), [0] * int(lost) + [3 * BLOCK] * (len(PROMPTS) - int(lost)))
            cluster.assert_nothing_held()


if __name__ == "__main__":
    unittest.main()
