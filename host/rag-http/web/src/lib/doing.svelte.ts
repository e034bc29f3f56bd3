// One thing that a form or a button does: whether it is at work, and why it did not work.

export class Doing {
  busy = $state(false);
  trouble = $state<unknown>();

  /** Does it, unless it is at work; whether it worked. */
  async run(work: () => Promise<void>): Promise<boolean> {
    if (this.busy) return false;
    this.busy = true;
    this.trouble = undefined;
    try {
      await work();
    } catch (error) {
      this.trouble = error;
    }
    this.busy = false;
    return this.trouble === undefined;
  }

  /** What a form is handed: its answer to being sent. */
  on(work: () => Promise<void>): (event: Event) => void {
    return (event) => {
      event.preventDefault();
      void this.run(work);
    };
  }
}
