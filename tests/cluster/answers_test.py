"""What a cluster answers: templates, stop strings, echo, choices, log-probabilities, usage, embeddings, models."""

import json
import math
import unittest

import grpc
from cluster import DATA, POEM_ALPACA, Cluster, ask, generation_pb2, sampling_pb2

QUESTION = {"chat": "写一首题为《春望》的五言律诗。"}


class AnswersTest(unittest.TestCase):
    def setUp(self):
        self.cluster = self.enterContext(Cluster(shards=2))
        self.stub = self.enterContext(self.cluster.stub())

    def test_answers_a_chat_with_a_whole_poem(self):
        answer = ask(self.stub, QUESTION, max_new_tokens=150)
        self.assertGreaterEqual(answer.text.count("，") + answer.text.count("。"), 4)
        self.assertGreater(len(answer.deltas), 10, "an answer is a stream, not one message")
        self.assertTrue(all(delta.text for delta in answer.deltas), "no empty delta")
        self.assertEqual(generation_pb2.ChatMessage(content=answer.text).content, answer.text)
        result = answer.finished.choices[0]
        self.assertEqual(answer.finished.usage.completion_tokens, result.completion_tokens)
        self.assertEqual(answer.finished.usage.prompt_tokens, answer.started.prompt_tokens)
        timings = answer.finished.timings
        self.assertGreater(timings.time_to_first_token.ToNanoseconds(), 0)
        self.assertGreaterEqual(timings.total.ToNanoseconds(), timings.time_to_first_token.ToNanoseconds())

    def test_template_t1_has_its_golden_ids_and_equals_the_prompt_spelled_out(self):
        request = generation_pb2.TokenizeRequest()
        request.chat.messages.add(role="user", content="写一首诗。")
        chat_ids = list(self.stub.Tokenize(request, timeout=20).token_ids)
        text = ("Below is an instruction that describes a task. Write a response that appropriately completes the "
                "request.\n\n### Instruction:\n写一首诗。\n\n### Response: ")
        text_ids = list(self.stub.Tokenize(generation_pb2.TokenizeRequest(text=text), timeout=20).token_ids)
        self.assertEqual(chat_ids, text_ids)
        self.assertEqual(ask(self.stub, {"chat": "写一首诗。"}, max_new_tokens=20).tokens,
                         ask(self.stub, text_ids, max_new_tokens=20).tokens)

    def test_greedy_ids_equal_the_golden_ones_up_to_the_first_narrow_margin(self):
        path = DATA / "golden" / "dev" / "logits-poem-alpaca.jsonl"
        if not path.exists():
            self.skipTest("golden data absent")
        compared = 0
        for line in path.read_text().splitlines():
            golden = json.loads(line)
            expected, margin = golden["greedy"], golden["greedy_margin"]
            safe = next((i for i, m in enumerate(margin) if m < 0.03), len(expected))
            answer = ask(self.stub, golden["ids"], max_new_tokens=len(expected), ignore_eos=True)
            self.assertEqual(answer.tokens[:safe], expected[:safe])
            compared += safe
        self.assertGreater(compared, 40)

    def test_stop_string_ends_the_text_before_it_and_is_named(self):
        whole = ask(self.stub, QUESTION, max_new_tokens=150).text
        stop = whole[8:10]
        answer = ask(self.stub, QUESTION, max_new_tokens=150, stop_strings=[stop])
        self.assertEqual(answer.text, whole[:whole.index(stop)])
        self.assertEqual(answer.finished.choices[0].stop_string, stop)
        self.assertEqual(answer.finished.choices[0].finish_reason, sampling_pb2.FINISH_REASON_STOP)
        self.cluster.assert_nothing_held()

    def test_length_limit_is_kept_and_named(self):
        answer = ask(self.stub, QUESTION, max_new_tokens=7)
        self.assertEqual(len(answer.tokens), 7)
        self.assertEqual(answer.finished.choices[0].finish_reason, sampling_pb2.FINISH_REASON_LENGTH)
        self.assertEqual(answer.finished.usage.completion_tokens, 7)

    def test_ignore_eos_and_min_new_tokens_write_past_the_end(self):
        short = ask(self.stub, QUESTION, max_new_tokens=300)
        self.assertEqual(short.finished.choices[0].finish_reason, sampling_pb2.FINISH_REASON_STOP)
        count = len(short.tokens) + 20
        self.assertEqual(len(ask(self.stub, QUESTION, max_new_tokens=count, ignore_eos=True).tokens), count)
        longer = ask(self.stub, QUESTION, max_new_tokens=count + 50, min_new_tokens=count)
        self.assertGreaterEqual(len(longer.tokens), count)

    def test_choices_are_independent_and_the_first_equals_a_single_one(self):
        answer = ask(self.stub, QUESTION, n=3, temperature=1.0, seed=11, max_new_tokens=30)
        self.assertEqual(sorted(answer.texts), [0, 1, 2])
        self.assertEqual(len({answer.texts[i] for i in range(3)}), 3)
        single = ask(self.stub, QUESTION, temperature=1.0, seed=11, max_new_tokens=30)
        self.assertEqual(single.tokens, answer.ids[0])
        self.assertEqual(answer.finished.usage.completion_tokens,
                         sum(c.completion_tokens for c in answer.finished.choices))

    def test_a_drawn_seed_is_returned_and_reproduces_the_answer(self):
        first = ask(self.stub, QUESTION, temperature=1.0, max_new_tokens=30)
        again = ask(self.stub, QUESTION, temperature=1.0, max_new_tokens=30, seed=first.started.seed)
        other = ask(self.stub, QUESTION, temperature=1.0, max_new_tokens=30, seed=first.started.seed ^ 1)
        self.assertEqual(again.tokens, first.tokens)
        self.assertNotEqual(other.tokens, first.tokens)

    def test_log_probabilities_are_of_the_tokens_and_best_first(self):
        answer = ask(self.stub, QUESTION, max_new_tokens=12, logprobs=3)
        entries = answer.logprobs[0]
        self.assertEqual([e.chosen.token_id for e in entries], answer.tokens)
        for entry in entries:
            self.assertEqual(len(entry.top), 3)
            self.assertEqual(entry.top[0].token_id, entry.chosen.token_id, "greedy chooses the best")
            self.assertEqual([t.logprob for t in entry.top], sorted((t.logprob for t in entry.top), reverse=True))
            self.assertLessEqual(sum(math.exp(t.logprob) for t in entry.top), 1.0001)

    def test_echo_begins_with_the_prompt_and_scores_it(self):
        text = "《春望》"
        plain = ask(self.stub, text, max_new_tokens=8)
        echoed = ask(self.stub, text, max_new_tokens=8, echo=True)
        self.assertEqual(echoed.text, text + plain.text)
        scored = ask(self.stub, text, max_new_tokens=8, echo=True, logprobs=1)
        self.assertEqual(scored.text, text + plain.text)
        prompt_tokens = scored.finished.usage.prompt_tokens
        # Nothing precedes the first prompt token, so it has no probability.
        self.assertEqual(len([e for e in scored.logprobs[0] if e.chosen.logprob < 0]), prompt_tokens - 1 + 8)

    def test_logit_bias_and_penalties_change_the_choice(self):
        plain = ask(self.stub, QUESTION, max_new_tokens=40)
        banned = plain.tokens[3]
        biased = ask(self.stub, QUESTION, max_new_tokens=40, logit_bias={banned: -100.0})
        self.assertEqual(biased.tokens[:3], plain.tokens[:3])
        self.assertNotIn(banned, biased.tokens)
        for option in ({"repetition_penalty": 2.0}, {"frequency_penalty": 2.0}, {"presence_penalty": 2.0}):
            self.assertNotEqual(ask(self.stub, QUESTION, max_new_tokens=40, **option).tokens, plain.tokens, option)

    def test_sampling_limits_of_one_candidate_are_greedy(self):
        greedy = ask(self.stub, QUESTION, max_new_tokens=30)
        for option in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}):
            answer = ask(self.stub, QUESTION, max_new_tokens=30, temperature=1.5, seed=3, **option)
            self.assertEqual(answer.tokens, greedy.tokens, option)

    def test_stop_token_ids_end_a_choice(self):
        plain = ask(self.stub, QUESTION, max_new_tokens=40)
        token = plain.tokens[5]
        answer = ask(self.stub, QUESTION, max_new_tokens=40, stop_token_ids=[token])
        self.assertEqual(answer.tokens, plain.tokens[:plain.tokens.index(token)])
        self.assertEqual(answer.finished.choices[0].stop_token_id, token)

    def test_tokenize_and_detokenize_invert_each_other(self):
        text = "白日依山尽，黄河入海流。 Hello 🙂"
        ids = self.stub.Tokenize(generation_pb2.TokenizeRequest(text=text), timeout=20).token_ids
        self.assertEqual(ids[0], 1)
        self.assertEqual(self.stub.Detokenize(generation_pb2.DetokenizeRequest(token_ids=ids), timeout=20).text, text)

    def test_special_tokens_in_user_text_stay_text_unless_asked(self):
        def ids(**options):
            return list(self.stub.Tokenize(generation_pb2.TokenizeRequest(text="a</s>b", **options), timeout=20).token_ids)
        self.assertNotIn(2, ids())
        self.assertIn(2, ids(parse_special=True))

    def test_embeddings_have_unit_length_and_follow_meaning_of_equal_texts(self):
        request = generation_pb2.EmbedRequest(texts=["白日依山尽", "明月几时有", "白日依山尽"])
        response = self.stub.Embed(request, timeout=30)
        vectors = [list(e.values) for e in response.embeddings]
        self.assertEqual(len(vectors), 3)
        for vector in vectors:
            self.assertEqual(len(vector), 256)
            self.assertAlmostEqual(sum(v * v for v in vector), 1.0, places=4)
        self.assertEqual(vectors[0], vectors[2])
        self.assertNotEqual(vectors[0], vectors[1])
        self.assertGreater(response.usage.prompt_tokens, 6)

    def test_models_are_listed_with_what_a_client_must_know(self):
        models = self.stub.ListModels(generation_pb2.ListModelsRequest(), timeout=20).models
        self.assertEqual([m.name for m in models], [POEM_ALPACA.name])
        model = self.stub.GetModel(generation_pb2.GetModelRequest(model=POEM_ALPACA.name), timeout=20).model
        self.assertEqual((model.context_tokens, model.vocabulary_size, model.hidden_size), (512, 6001, 256))
        self.assertEqual(model.ready_groups, 1)
        self.assertEqual(len(model.digest), 64)
        self.assertIn(model.chat_template, model.chat_templates)
        with self.assertRaises(grpc.RpcError) as caught:
            self.stub.GetModel(generation_pb2.GetModelRequest(model="other"), timeout=20)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)
        self.assertIn(POEM_ALPACA.name, caught.exception.details())


if __name__ == "__main__":
    unittest.main()
