/** What gives a sentence in the page's language; JupyterLab's `TranslationBundle` is one. Sentences of a kernel are finished. */
export interface ITranslate {
  /** The sentence, with %1, %2, … replaced. */
  __(sentence: string, ...values: unknown[]): string;
}
