"""The tokens of a request depend on its prompt, parameters and seed alone: not on company, chunks, cuts or preemption."""

import concurrent.futures
import random
import unittest

from cluster import Cluster, ask


def workload(seed, count):
    """Random requests over every sampling parameter; the same for the same seed."""
    generator = random.Random(seed)
    requests = []
    for i in range(count):
        options = {"max_new_tokens": generator.randint(1, 48), "ignore_eos": True}
        if generator.random() < 0.7:
            options.update(temperature=generator.choice([0.2, 0.7, 1.0, 1.5]), seed=generator.getrandbits(64),
                           top_k=generator.choice([0, 5, 40]), top_p=generator.choice([1.0, 0.9, 0.5]),
                           min_p=generator.choice([0.0, 0.05]))
        if generator.random() < 0.4:
            options.update(repetition_penalty=1.1, frequency_penalty=generator.choice([0.0, 0.5]),
                           presence_penalty=generator.choice([0.0, 0.5]))
        if generator.random() < 0.3:
            options["logprobs"] = 2
        prompt = [1] + [generator.randrange(259, 6000) for _ in range(generator.choice([1, 5, 33, 64, 150]))]
        requests.append((i, prompt, options))
    return requests


def answers(cluster, requests, together):
    """{request: (ids, log-probabilities)}; all at once, or one after the other."""
    with cluster.stub() as stub:
        def one(request):
            index, prompt, options = request
            answer = ask(stub, prompt, **options)
            return index, (answer.tokens, [e.chosen.logprob for e in answer.logprobs.get(0, [])])
        with concurrent.futures.ThreadPoolExecutor(len(requests) if together else 1) as pool:
            return dict(pool.map(one, requests))


class ReproducibleTest(unittest.TestCase):
    REQUESTS = workload(seed=20, count=64)

    def alone(self, requests):
        with Cluster() as cluster:
            return answers(cluster, requests, together=False)

    def test_same_tokens_alone_in_company_in_other_chunks_and_cuts(self):
        expected = self.alone(self.REQUESTS)
        for name, options in {
                "among 63 others": {},
                "chunks of 7, two shards": {"shards": 2, "worker": ["--step-tokens", "16", "--prompt-chunk", "7"]},
                "three shards, two threads": {"shards": 3, "worker": ["--threads", "2", "--max-running", "20"]},
                "six shards, steps of 64": {"shards": 6, "worker": ["--step-tokens", "64"]},
                "two groups": {"groups": 2},
        }.items():
            with self.subTest(name), Cluster(**options) as cluster:
                self.assertEqual(answers(cluster, self.REQUESTS, together=True), expected)
                cluster.assert_nothing_held()

    def test_same_tokens_after_preemption(self):
        # Short prompts that grow long: far more of them start than 24 blocks (768 positions) can hold.
        requests = [(i, prompt[:5], {**options, "max_new_tokens": 180}) for i, prompt, options in self.REQUESTS[:16]]
        expected = self.alone(requests)
        for shards in (1, 2):
            with self.subTest(shards=shards), Cluster(shards=shards, worker=["--kv-blocks", "24"]) as cluster:
                self.assertEqual(answers(cluster, requests, together=True), expected)
                self.assertGreater(cluster.leaders()[0].metric("yangtuo_preemptions_total"), 0)
                cluster.assert_nothing_held()


if __name__ == "__main__":
    unittest.main()
