//! What the demo model knows: a small FAQ of the demo's tea shop, found by the words of the question.

/// One topic: the words that point to it and the answer.
struct Topic {
    words: &'static [&'static str],
    answer: &'static str,
}

const TOPICS: [Topic; 9] = [
    Topic {
        words: &["return", "returns", "refund", "back", "exchange", "send"],
        answer: "You can return anything within 30 days. Open your order, choose \"Return an item\", print the label \
                 and drop the parcel at any post office. The money is back on your card three to five days after the \
                 parcel reaches us.",
    },
    Topic {
        words: &["password", "login", "reset", "sign", "forgot", "locked"],
        answer: "Choose \"Forgot password\" on the sign-in page and enter your e-mail address. We send you a link that \
                 works for one hour; follow it and set a new password.",
    },
    Topic {
        words: &["shipping", "delivery", "deliver", "ship", "arrive", "parcel", "track", "tracking"],
        answer: "Orders placed before 15:00 leave the same day and arrive in two to three working days. The tracking \
                 link is in the shipping e-mail and under \"Your orders\".",
    },
    Topic {
        words: &["cancel", "change", "order"],
        answer: "An order can be changed or cancelled until it is packed: open it under \"Your orders\" and choose \
                 \"Cancel\" or \"Change\". Once it is packed, please use a return instead.",
    },
    Topic {
        words: &["pay", "payment", "card", "invoice", "paypal"],
        answer: "We take all common cards, bank transfer and invoice for companies. The amount is charged when the \
                 parcel leaves our warehouse.",
    },
    Topic {
        words: &["green", "brew", "temperature", "steep", "tea", "water"],
        answer: "Green tea likes water at 70 to 80 degrees and two minutes; black tea takes boiling water and four \
                 minutes. Warm the pot first, and take the leaves out when the time is up.",
    },
    Topic {
        words: &["kettle", "limescale", "descale", "clean", "cleaning"],
        answer: "Boil equal parts of water and white vinegar in the kettle, let it stand for half an hour, pour it out \
                 and boil clear water twice. Once a month keeps limescale away.",
    },
    Topic {
        words: &["cache", "caching", "semantic", "gateway", "latency"],
        answer: "A semantic cache keeps answers together with the meaning of the question. When somebody asks the same \
                 thing in other words, the stored answer is served in milliseconds and the model is not called.",
    },
    Topic {
        words: &["hello", "hi", "hey", "thanks", "thank"],
        answer: "Hello! I am the tea shop's assistant. Ask me about orders, deliveries, returns or how to brew tea.",
    },
];

/// The answer to `question`: the topic that most of its words point to, else an honest fallback that repeats it.
pub fn answer(question: &str) -> String {
    let words: Vec<String> =
        question.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
    let score = |topic: &Topic| words.iter().filter(|word| topic.words.contains(&word.as_str())).count();
    match TOPICS.iter().rev().max_by_key(|topic| score(topic)).filter(|topic| score(topic) > 0) {
        Some(topic) => topic.answer.to_owned(),
        None => {
            let heard: String = question.chars().take(80).collect();
            format!("You asked: \"{}\". I am a demo model and know only about a tea shop.", heard.trim())
        }
    }
}

/// Cuts an answer into tokens the way a stream would carry them: words with the space before them.
pub fn tokens(text: &str) -> Vec<&str> {
    text.split_inclusive(' ').filter(|token| !token.is_empty()).collect()
}

/// About how many tokens a text has: four characters each, the usual rule of thumb for English.
pub fn token_count(text: &str) -> usize {
    text.chars().count().div_ceil(4)
}
